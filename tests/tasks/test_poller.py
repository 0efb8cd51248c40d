"""How often workers poll, and the number of queries."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import event

from appkit.repository.enqueueing import add_task
from appkit.repository.outbox import TaskPolicy
from appkit.tasks.outbox_broker import OutboxBroker
from appkit.tasks.poller import IDLE_INTERVAL, Poller


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
async def poller(broker: OutboxBroker) -> Poller[Any]:
    """A poller that has polled once, and found nothing."""
    poller = broker.add_poller(broker.in_flight.claim_next)
    await poller.poll()
    return poller


@pytest.fixture
def listening(monkeypatch):
    """PostgreSQL notifies of commits."""
    monkeypatch.setattr(OutboxBroker, "listening", True)


@pytest.fixture
def statements(app) -> list[str]:
    statements: list[str] = []
    for engine in app.database.engines:
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    return statements


async def test_poll_of_an_idle_worker_is_one_query(poller, statements):
    for _ in range(5):
        await poller.poll()
    assert [statement.partition(" ")[0] for statement in statements if "BEGIN" not in statement] == ["SELECT"] * 5


async def test_idle_worker_polls_once_a_second_and_less_often_while_it_listens(poller, monkeypatch):
    waits = [(await poller.poll())[1] for _ in range(5)]
    assert all(0.8 <= wait <= 1.2 for wait in waits)
    monkeypatch.setattr(OutboxBroker, "listening", True)
    waits = [(await poller.poll())[1] for _ in range(5)]
    assert all(0.8 * IDLE_INTERVAL <= wait <= 1.2 * IDLE_INTERVAL for wait in waits)  # One query in ten seconds.


@pytest.mark.usefixtures("listening")
async def test_idle_worker_polls_again_when_a_task_is_due(app, poller):
    for _ in range(5):
        await poller.poll()
    async with app.session() as db:
        add_task(db, TaskPolicy(name="watched", delay=7))
    poller._woken.clear()  # As if another process had written the task without a notification.
    _, wait = await poller.poll()
    assert 0 < wait <= 7  # Without the task, it would be eight seconds or more.


@pytest.mark.usefixtures("listening")
async def test_worker_that_finds_something_is_no_longer_idle(app, poller):
    for _ in range(5):
        await poller.poll()
    async with app.session() as db:
        add_task(db, TaskPolicy(name="watched"))
    leases, wait = await poller.poll()
    assert (len(leases), wait) == (1, 0)
    taken, wait = await poller.poll()
    assert taken is None
    assert wait <= 1.2
