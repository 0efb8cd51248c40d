"""How often workers look for work, and what that costs."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import event

from appkit.repository.enqueueing import add_task
from appkit.repository.outbox import TaskPolicy
from appkit.tasks.broker import OutboxBroker
from appkit.tasks.watch import IDLE, Watch


@pytest.fixture
async def app(make_app):
    return await make_app(poll_interval=1, lease=60, notify="off")


@pytest.fixture
async def broker(app) -> AsyncIterator[OutboxBroker]:
    @app.router.task(name="watched")
    async def work() -> None: ...

    broker = app.broker()
    await broker.startup()
    yield broker
    await broker.shutdown()


@pytest.fixture
async def watch(broker: OutboxBroker) -> Watch[Any]:
    """One that has looked once, and found nothing."""
    watch = broker.watch(broker.leases.take)
    await watch._look()
    return watch


@pytest.fixture
def told(monkeypatch):
    """PostgreSQL tells of commits."""
    monkeypatch.setattr(OutboxBroker, "listens", True)


@pytest.fixture
def statements(app) -> list[str]:
    statements: list[str] = []
    for engine in app.database.engines:
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    return statements


async def test_look_of_an_idle_worker_is_one_query(watch, statements):
    for _ in range(5):
        await watch._look()
    assert [statement.partition(" ")[0] for statement in statements if "BEGIN" not in statement] == ["SELECT"] * 5


async def test_idle_worker_looks_once_a_second_and_ever_more_rarely_where_it_is_told(watch, monkeypatch):
    waits = [(await watch._look())[1] for _ in range(5)]
    assert all(0.8 <= wait <= 1.2 for wait in waits)
    monkeypatch.setattr(OutboxBroker, "listens", True)
    waits = [(await watch._look())[1] for _ in range(5)]
    assert all(0.8 * IDLE <= wait <= 1.2 * IDLE for wait in waits)  # A tenth of a query a second.


@pytest.mark.usefixtures("told")
async def test_idle_worker_looks_again_when_a_task_is_due(app, watch):
    for _ in range(5):
        await watch._look()
    async with app.session() as db:
        add_task(db, TaskPolicy(name="watched", delay=7))
    watch._woken.clear()  # As if it had been written elsewhere, and nobody told.
    _, wait = await watch._look()
    assert 0 < wait <= 7  # It would be eight seconds or more without it.


@pytest.mark.usefixtures("told")
async def test_worker_that_finds_something_is_no_longer_idle(app, watch):
    for _ in range(5):
        await watch._look()
    async with app.session() as db:
        add_task(db, TaskPolicy(name="watched"))
    leases, wait = await watch._look()
    assert (len(leases), wait) == (1, 0)
    taken, wait = await watch._look()
    assert taken is None
    assert wait <= 1.2
