"""An app without HTTP: a database with an outbox, a router, and brokers to run its tasks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.core.cache import Cache
from appkit.core.limits import Limiter
from appkit.core.mail import create_mailer
from appkit.core.settings import Settings
from appkit.plugins.manager import PluginManager
from appkit.repository.base import Base
from appkit.repository.context import AppContext
from appkit.repository.database import Database
from appkit.repository.outbox import OutboxTask, TaskPolicy
from appkit.repository.user import BaseUser
from appkit.tasks.broker import OutboxBroker, create_broker, register_tasks
from appkit.tasks.relay import Relay
from appkit.tasks.router import TaskRouter

EFFECTS = Table("effect", MetaData(), Column("id", Integer, primary_key=True), Column("name", String(100)))


class App:
    """What tests of tasks need of a kit."""

    def __init__(self, database_url: str, **tasks: Any) -> None:
        tasks = {"poll_interval": 0.1, "retry_delay": 0, "lease": 3, "shutdown_grace": 5, **tasks}
        self.settings = Settings(
            _env_file=None, environment="test", database={"url": database_url}, mail={"url": "memory://"}, tasks=tasks
        )
        self.router = TaskRouter()
        self.database = Database(self.settings.database)
        self.database.context = self.context = AppContext(
            settings=self.settings,
            plugins=PluginManager(self.settings.plugins),
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
        async with Relay(broker, work=True):
            yield broker

    async def create_tables(self) -> None:
        async with self.database.engine.begin() as connection:
            for table in ("appkit_outbox", "appkit_schedule"):
                await connection.run_sync(Base.metadata.tables[table].create)
            await connection.run_sync(EFFECTS.create)

    async def rows(self) -> list[OutboxTask]:
        async with self.database.read_session() as db:
            return list(await db.scalars(select(OutboxTask).order_by(OutboxTask.id)))

    async def effects(self) -> list[str]:
        async with self.database.read_session() as db:
            return list(await db.scalars(select(EFFECTS.c.name).order_by(EFFECTS.c.id)))

    async def until(self, condition: Callable[[list[OutboxTask]], bool], timeout: float = 15.0) -> list[OutboxTask]:
        """The rows, once they are as wanted."""
        end = monotonic() + timeout
        while not condition(rows := await self.rows()):
            assert monotonic() < end, [(row.task_name, row.state, row.attempts, row.last_error) for row in rows]
            await asyncio.sleep(0.02)
        return rows

    async def settled(self, timeout: float = 15.0) -> list[OutboxTask]:
        """The rows, once each is done or dead."""
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
    """Apps on one database; keyword arguments are `TASKS_…`."""
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
async def app(make_app: Callable[..., Any]) -> App:
    return await make_app()  # type: ignore[no-any-return]
