"""The broker for each URL, and plain Taskiq code that uses the broker."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from taskiq import BrokerMessage, Context, SimpleRetryMiddleware, TaskiqDepends
from taskiq.api import run_receiver_task

from appkit.core.settings import Settings
from appkit.exceptions import AppKitError
from appkit.plugins.markers import hookimpl
from appkit.tasks.broker import create_broker
from appkit.tasks.context import TaskSession, _task_context
from appkit.tasks.hookspecs import BrokerScheme
from appkit.tasks.outbox_broker import OutboxBroker
from appkit.tasks.router import enqueue
from appkit.tasks.transports import MemoryBroker
from appkit.tasks.worker import Worker

Injected = Annotated[Context, TaskiqDepends()]


def settings(url: str, tmp_path: Path) -> Settings:
    database = {"url": f"sqlite:///{tmp_path / 'own.db'}"}
    return Settings(_env_file=None, database=database, tasks={"broker_url": url, "poll_interval": 0.1})


def test_database_is_the_default_broker(tmp_path: Path) -> None:
    assert type(create_broker(Settings(_env_file=None))) is OutboxBroker


@pytest.mark.parametrize("url", ["kafka://user:secret@host", "redis+cluster://host", "redis", ""])
def test_unknown_scheme_lists_the_known_ones(url: str, tmp_path: Path) -> None:
    with pytest.raises(AppKitError, match="Use one of these: db://, redis://, rediss://, amqp://") as caught:
        create_broker(settings(url, tmp_path))

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://user:secret@host/db", "sqlite:///app.db"])
def test_database_url_is_refused_as_broker_url(url: str, tmp_path: Path) -> None:
    with pytest.raises(AppKitError, match="For tasks in the app's own database, set it to db://") as caught:
        create_broker(settings(url, tmp_path))

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps", "nats", "tls", "memory"])
def test_unknown_option_is_refused(scheme: str, tmp_path: Path) -> None:
    create_broker(settings(f"{scheme}://host/?queue=jobs", tmp_path))
    with pytest.raises(AppKitError, match="has the unknown option 'prefetch'. Options of .*:// URLs: queue"):
        create_broker(settings(f"{scheme}://host/?queue=jobs&prefetch=10", tmp_path))


def test_database_broker_takes_no_address(tmp_path: Path) -> None:
    with pytest.raises(AppKitError, match="which is the database at DATABASE_URL"):
        create_broker(settings("db://host", tmp_path))


def test_memory_broker_is_refused_in_production(tmp_path: Path) -> None:
    production = settings("memory://", tmp_path).model_copy(update={"environment": "production"})
    with pytest.raises(AppKitError, match="whose messages reach no other process"):
        create_broker(production)


@pytest.mark.parametrize(
    ("scheme", "module", "extra"),
    [("redis", "taskiq_redis", "redis"), ("amqp", "taskiq_aio_pika", "rabbitmq"), ("nats", "nats.js.api", "nats")],
)
def test_missing_extra_says_how_to_install_it(
    scheme: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "appkit.tasks.redis_broker", raising=False)
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(AppKitError, match=rf"pip install 'fastapi-appkit\[{extra}\]'"):
        create_broker(settings(f"{scheme}://localhost", tmp_path))


async def test_hook_register_brokers_carries_tasks(make_app):
    app = await make_app(broker_url="pigeon://loft")
    kicked = []

    class Pigeons(MemoryBroker):
        async def kick(self, message: BrokerMessage) -> None:
            kicked.append(message.task_id)
            await super().kick(message)

    class Plugin:
        @hookimpl
        def register_brokers(self):
            return [BrokerScheme("pigeon", lambda _, __: Pigeons())]

    app.context.plugins.register(Plugin())

    @app.router.task
    async def work(db: TaskSession) -> None:
        await app.effect(db, "worked")

    async with Worker(app.broker(), work=False):  # A worker might claim the task before it is published.
        async with app.session() as db:
            handle = enqueue(db, work)
        await app.until(lambda rows: [row.state for row in rows] == ["published"] and bool(kicked))
    async with app.working():
        await app.settled()

    assert kicked == [handle.task_id]
    assert await app.effects() == ["worked"]


async def test_broker_works_without_an_app(tmp_path: Path) -> None:
    """The broker is used only through Taskiq's API, and the worker is Taskiq's own."""
    broker = create_broker(settings("db://", tmp_path))
    ran: list[tuple[int, int]] = []
    done = asyncio.Event()

    @broker.task(retry_delay=0)
    async def work(number: int, ctx: Any = TaskiqDepends(_task_context)) -> None:  # noqa: B008 - Taskiq's API
        ran.append((number, ctx.attempt))
        if len(ran) == 1:
            raise ValueError
        done.set()

    await broker.startup()
    await work.kiq(5)
    worker = asyncio.create_task(run_receiver_task(broker))
    await asyncio.wait_for(done.wait(), 60)
    worker.cancel()
    await asyncio.wait([worker])
    await broker.shutdown()

    assert ran == [(5, 1), (5, 2)]


async def test_taskiq_s_own_retries_go_through_the_outbox(app):
    ran = []
    broker = app.broker()
    broker.add_middlewares(SimpleRetryMiddleware())

    @broker.task(retry_on_error=True, max_retries=3)
    async def work(context: Injected) -> None:
        ran.append(context.message.task_id)
        if len(ran) < 3:
            raise ValueError

    async with app.working(broker):
        task = await work.kicker().with_task_id("my-own-id").kiq()
        (row,) = await app.settled()

    assert ran == ["my-own-id"] * 3
    assert (row.task_id, row.state, row.attempts) == (task.task_id, "done", 3)


async def test_requeued_task_runs_again(app):
    ran = []
    broker = app.broker()

    @broker.task
    async def work(context: Injected) -> None:
        ran.append(1)
        if len(ran) < 2:
            await context.requeue()

    async with app.working(broker):
        await work.kiq()
        (row,) = await app.settled()

    assert len(ran) == 2
    assert row.state == "done"


async def test_dependencies_of_concurrent_tasks_are_their_own(app):
    def whose(context: Injected) -> str:
        return context.message.task_id

    async def slow() -> None:
        await asyncio.sleep(0.05)

    seen = []
    broker = app.broker()

    @broker.task
    async def work(
        context: Injected,
        _: Annotated[None, TaskiqDepends(slow)],
        uncached: Annotated[str, TaskiqDepends(whose, use_cache=False)],
    ) -> None:
        seen.append((uncached, context.message.task_id))

    async with app.working(broker):
        for _ in range(10):
            await work.kiq()
        await app.settled()

    assert len(seen) == 10
    assert all(uncached == own for uncached, own in seen)


@pytest.mark.parametrize("failing", [False, True])
async def test_stock_receiver_settles_too(make_app, failing):
    """`taskiq worker bookmarks:broker` runs this receiver. A failed teardown is a failure of the task here too."""
    app = await make_app(max_attempts=2)

    async def connection():
        yield 1
        if failing:
            raise ValueError("could not be closed")

    @app.router.task
    async def work(number: int, db: TaskSession, one: Annotated[int, TaskiqDepends(connection)]) -> None:
        await app.effect(db, str(number + one))

    broker = app.broker()
    await broker.startup()
    worker = asyncio.create_task(run_receiver_task(broker))
    async with app.session() as db:
        enqueue(db, work, 1)
    (row,) = await app.settled()
    worker.cancel()
    await asyncio.wait([worker])
    await broker.shutdown()

    if failing:
        assert (row.state, row.attempts, row.last_error) == ("dead", 2, "ValueError: could not be closed")
        assert await app.effects() == []
    else:
        assert (row.state, row.attempts) == ("done", 1)
        assert await app.effects() == ["2"]
