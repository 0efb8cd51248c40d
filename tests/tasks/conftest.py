"""An app without HTTP: a database with an outbox, a router, and brokers to run its tasks."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any
from uuid import uuid4

import aio_pika
import nats
import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.core.cache import Cache
from appkit.core.limits import Limiter
from appkit.core.mail import create_mailer
from appkit.core.settings import Settings
from appkit.kit import HOOKS
from appkit.plugins.manager import PluginManager
from appkit.repository.base import Base
from appkit.repository.context import AppContext
from appkit.repository.database import Database
from appkit.repository.outbox import OutboxTask, TaskPolicy
from appkit.repository.user import BaseUser
from appkit.tasks.broker import create_broker, register_tasks
from appkit.tasks.outbox_broker import OutboxBroker
from appkit.tasks.router import TaskRouter
from appkit.tasks.worker import Worker

SERVERS = {
    "amqp": os.environ.get("APPKIT_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/"),
    "nats": os.environ.get("APPKIT_TEST_NATS_URL", "nats://127.0.0.1:4222"),
}

EFFECTS = Table("effect", MetaData(), Column("id", Integer, primary_key=True), Column("name", String(100)))


class App:
    """The parts of a kit that tests of tasks need."""

    def __init__(self, database_url: str, *, pool_size: int = 10, **tasks: Any) -> None:
        tasks = {"poll_interval": 0.1, "retry_delay": 0, "lease": 3, "shutdown_grace": 5, **tasks}
        self.settings = Settings(
            _env_file=None,
            environment="test",
            database={"url": database_url, "pool_size": pool_size},
            mail={"url": "memory://"},
            tasks=tasks,
        )
        self.router = TaskRouter()
        self.database = Database(self.settings.database)
        self.database.context = self.context = AppContext(
            settings=self.settings,
            plugins=PluginManager(HOOKS),
            database=self.database,
            mailer=create_mailer(self.settings),
            cache=Cache(),
            limiter=Limiter(self.settings),
            user_model=BaseUser,
            subscribers=_Subscribers(self.router),
        )

    def session(self) -> Any:
        return self.database.session()

    def broker(self) -> OutboxBroker:
        broker = create_broker(self.settings, database=self.database)
        register_tasks(broker, [self.router])
        return broker

    @asynccontextmanager
    async def working(self, broker: OutboxBroker | None = None) -> AsyncIterator[OutboxBroker]:
        broker = broker or self.broker()
        async with Worker(broker, work=True):
            yield broker

    async def create_tables(self) -> None:
        async with self.database.engine.begin() as connection:
            tables = [Base.metadata.tables[name] for name in ("appkit_outbox", "appkit_schedule")]
            await connection.run_sync(Base.metadata.create_all, tables=tables)
            await connection.run_sync(EFFECTS.create)

    async def rows(self) -> list[OutboxTask]:
        async with self.database.read_session() as db:
            return list(await db.scalars(select(OutboxTask).order_by(OutboxTask.id)))

    async def effects(self) -> list[str]:
        async with self.database.read_session() as db:
            return list(await db.scalars(select(EFFECTS.c.name).order_by(EFFECTS.c.id)))

    async def until(self, condition: Callable[[list[OutboxTask]], bool], timeout: float = 15.0) -> list[OutboxTask]:
        """Wait until the rows meet the condition, and return the rows."""
        end = monotonic() + timeout
        while not condition(rows := await self.rows()):
            assert monotonic() < end, [(row.task_name, row.state, row.attempts, row.last_error) for row in rows]
            await asyncio.sleep(0.02)
        return rows

    async def settled(self, timeout: float = 15.0) -> list[OutboxTask]:
        """Wait until all tasks have ended, and return the rows."""
        return await self.until(lambda rows: all(row.state in {"done", "dead", "cancelled"} for row in rows), timeout)

    @staticmethod
    async def effect(db: AsyncSession, name: str) -> None:
        await db.execute(insert(EFFECTS).values(name=name))


class _Subscribers(Mapping[type[Any], list[TaskPolicy]]):
    def __init__(self, router: TaskRouter) -> None:
        self._router = router

    def __getitem__(self, event: type[Any]) -> list[TaskPolicy]:
        return self._router.policies(event)

    def __iter__(self) -> Any:
        return iter(self._router.subscriptions)

    def __len__(self) -> int:
        return len(self._router.subscriptions)


@pytest.fixture
async def make_app(database_url: str) -> AsyncIterator[Callable[..., Any]]:
    """A function that makes apps on one database. Its keyword arguments are `TASKS_…` settings."""
    apps: list[App] = []

    async def make(**tasks: Any) -> App:
        apps.append(app := App(database_url, **tasks))
        if len(apps) == 1:
            await app.create_tables()
        return app

    yield make
    for app in apps:
        await app.database.dispose()


@pytest.fixture
def redis_broker(redis_url: str, redis_prefix: str) -> str:
    """A Redis URL with separate queues for the test."""
    return f"{redis_url}?queue={redis_prefix}tasks"


@pytest.fixture(params=["redis", "amqp", "nats"])
async def broker_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of each message broker, with separate queues for the test."""
    if request.param == "redis":
        yield request.getfixturevalue("redis_broker")
        return
    prefix = f"appkit-test-{uuid4().hex}"
    clean = _clean_amqp if request.param == "amqp" else _clean_nats
    try:
        await clean(prefix)
    except OSError as exc:
        if os.environ.get("CI"):
            pytest.fail(f"There is no server for {request.param}://: {exc}")
        pytest.skip(f"There is no server for {request.param}://: {exc}")
    yield f"{SERVERS[request.param]}?queue={prefix}"
    await clean(prefix)


async def _clean_amqp(prefix: str) -> None:
    async with await aio_pika.connect(SERVERS["amqp"]) as connection:
        channel = await connection.channel()
        await channel.queue_delete(f"{prefix}:default")
        await channel.queue_delete(f"{prefix}:default:dead")
        await channel.exchange_delete(f"{prefix}:default")


async def _clean_nats(prefix: str) -> None:
    client = await nats.connect(SERVERS["nats"], max_reconnect_attempts=1)
    with suppress(nats.js.errors.NotFoundError):
        await client.jetstream().delete_stream(f"{prefix}_default")
    await client.close()


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are renewed ten times a second, even long leases."""
    monkeypatch.setattr("appkit.tasks.heartbeat.MAX_INTERVAL", 0.1)


@pytest.fixture
async def app(make_app: Callable[..., Any]) -> App:
    return await make_app()  # type: ignore[no-any-return]
