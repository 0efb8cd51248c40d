"""AppKit: settings, database, broker, plugins and the app, put together. The only module that knows every layer."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cached_property
from itertools import chain
from types import ModuleType
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.api.app import create_app, install
from appkit.core.cache import Cache
from appkit.core.groups import add_groups
from appkit.core.limits import Limiter
from appkit.core.logging import configure_logging
from appkit.core.mail import Mailer, create_mailer
from appkit.core.monitoring import Monitoring
from appkit.core.settings import Settings, SettingsGroup, describe_errors
from appkit.core.watchdog import Watchdog
from appkit.domain.events import Event
from appkit.exceptions import AppKitError, ServiceUnavailableException
from appkit.plugins.hookspecs import HealthCheck, hookimpl
from appkit.plugins.manager import PluginManager
from appkit.repository.context import AppContext
from appkit.repository.database import Database
from appkit.repository.outbox import TaskPolicy
from appkit.repository.user import BaseUser, resolve_user_model
from appkit.tasks.router import TaskRouter

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from appkit.tasks.broker import OutboxBroker
    from appkit.tasks.worker import Worker


class AppKit:
    """An app: its settings, its database, its broker, its plugins and its routes.

    Nothing is built before it is used, so a module can name its kit first and define models, routes and tasks after.

    Args:
        settings: The app's settings; read from the environment unless given.
        routers: Routers to mount under `settings.api_prefix`.
        task_routers: Routers whose tasks the broker knows, beside those declared on the kit itself.
        plugins: Plugins of the app's own: modules or objects with hook implementations.
        hooks: Modules with hooks that the app offers to plugins, beside appkit's: functions marked `hookspec`.
        user_model: The mapped `BaseUser` subclass, where there is more than one.
        discover: Whether installed plugins are loaded too.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        routers: Sequence[APIRouter] = (),
        task_routers: Sequence[TaskRouter] = (),
        plugins: Sequence[object] = (),
        hooks: Sequence[ModuleType] = (),
        user_model: type[BaseUser] | None = None,
        discover: bool = True,
    ) -> None:
        self._settings = settings
        self._routers = routers
        self._plugins = plugins
        self._hooks = hooks
        self._user_model = user_model
        self._discover = discover
        self._own_tasks = TaskRouter()
        self._given_task_routers = task_routers
        self._taskiq_worker: AsyncExitStack | None = None
        self._worker: Worker | None = None
        self.task = self._own_tasks.task
        self.on = self._own_tasks.on
        self.cron = self._own_tasks.cron

    # What it is made of

    @cached_property
    def settings(self) -> Settings:
        """The app's settings, with the groups of its plugins.

        Raises:
            AppKitError: When the environment's are not acceptable; the message names each variable.
        """
        groups: dict[str, type[SettingsGroup]] = {}
        for more in self.plugins.collect("register_settings"):
            if twice := groups.keys() & more.keys():
                raise AppKitError(f"Two plugins register settings called {min(twice)!r}. Leave one out.")
            groups |= more
        return add_groups(self._own_settings, groups)

    @cached_property
    def _own_settings(self) -> Settings:
        if self._settings is not None:
            return self._settings
        try:
            return Settings()
        except ValidationError as exc:
            raise AppKitError("\n".join(describe_errors(exc))) from None

    @cached_property
    def plugins(self) -> PluginManager:
        """The plugins: appkit's own, then the installed ones, then the app's; the latest is asked first."""
        settings = self._own_settings
        manager = PluginManager(settings.plugins, self._hooks)
        manager.register(Monitoring(settings), "monitoring")
        manager.register(_Health(self), "health")
        development = settings.environment == "development"
        manager.register(Watchdog(enabled=development if settings.watchdog is None else settings.watchdog), "watchdog")
        if self._discover:
            manager.load_installed()
        for plugin in self._plugins:
            manager.register(plugin)
        return manager

    @cached_property
    def context(self) -> AppContext:
        """What services, routes and tasks see of the app."""
        import appkit.repository.auth  # noqa: F401 - its tables belong to every app that has a kit

        database = Database(self.settings.database)
        database.context = AppContext(
            settings=self.settings,
            plugins=self.plugins,
            database=database,
            mailer=create_mailer(self.settings),
            cache=Cache(self.redis, prefix=self.settings.app_name),
            limiter=Limiter(self.settings, self.redis),
            user_model=resolve_user_model(self._user_model),
            subscribers=_Subscribers(self._task_routers),
        )
        return database.context

    @property
    def database(self) -> Database:
        """The database."""
        return self.context.database

    @property
    def mailer(self) -> Mailer:
        """Sends mail, by way of `MAIL_URL`."""
        return self.context.mailer

    @property
    def cache(self) -> Cache:
        """Keeps what is expensive to make, in Redis where there is one."""
        return self.context.cache

    @property
    def limiter(self) -> Limiter:
        """Counts how often somebody does something, in Redis where there is one."""
        return self.context.limiter

    @cached_property
    def redis(self) -> "Redis | None":
        """A client of the server at `REDIS_URL`; None without one."""
        if self.settings.redis.url is None:
            return None
        from redis.asyncio import Redis

        return Redis.from_url(self.settings.redis.url)

    @cached_property
    def broker(self) -> "OutboxBroker":
        """The Taskiq broker, which knows every task; `taskiq worker` accepts it.

        Raises:
            AppKitError: When there is no broker for `TASKS_BROKER_URL`, or two tasks have one name.
        """
        from taskiq import TaskiqEvents

        from appkit.tasks.broker import create_broker, register_tasks

        broker = create_broker(self.settings, database=self.database)
        register_tasks(broker, self._task_routers)
        broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, self._start_worker)
        broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, self._stop_worker)
        return broker

    @cached_property
    def _task_routers(self) -> list[TaskRouter]:
        from appkit.tasks.accounts import account_tasks
        from appkit.tasks.observers import observer_tasks

        return [
            account_tasks,
            observer_tasks(self),
            *self.plugins.collect("register_tasks"),
            *self._given_task_routers,
            self._own_tasks,
        ]

    @cached_property
    def app(self) -> FastAPI:
        """The ASGI app."""
        return create_app(self.context, self._routers, self.lifespan)

    def install(self, app: FastAPI) -> None:
        """Put everything that `app` has into a FastAPI app of one's own, which is `kit.app` from then on."""
        install(app, self.context, self._routers, self.lifespan)
        self.app = app

    # What one does with it

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """One unit of work: commits when the block ends, rolls back when it raises."""
        return self.database.session()

    @asynccontextmanager
    async def lifespan(self, *, work: bool | None = None) -> AsyncIterator[None]:
        """Start all that the app needs, and stop it in reverse: what the ASGI lifespan and a worker enter.

        Args:
            work: Whether this process runs tasks; as `TASKS_EMBEDDED` says, unless given.

        Raises:
            AppKitError: When the database can't be brought to the state that the models need.
        """
        from appkit.tasks.broker import register_tasks
        from appkit.tasks.worker import Worker

        async with AsyncExitStack() as stack:
            await self._start(stack)
            register_tasks(self.broker, self._task_routers)  # Some may have been declared since.
            self._worker = await stack.enter_async_context(Worker(self.broker, work=work))
            yield
            self._worker = None

    async def _start(self, stack: AsyncExitStack) -> None:
        """Start everything but the tasks."""
        from appkit.repository.migrations import migrate_at_start

        settings = self.settings
        configure_logging(settings)
        stack.push_async_callback(self._close)
        await migrate_at_start(
            self.database, settings.database.migrations, settings.database.migrate, production=settings.production
        )
        await self.plugins.enter(stack, kit=self)

    async def _close(self) -> None:
        if (redis := self.__dict__.get("redis")) is not None:
            await redis.aclose()
        await self.database.dispose()

    async def _start_worker(self, _: object) -> None:
        """Give Taskiq's own worker, which enters no lifespan, what one gives."""
        if self._worker is None:
            self._taskiq_worker = AsyncExitStack()
            await self._start(self._taskiq_worker)

    async def _stop_worker(self, _: object) -> None:
        if self._taskiq_worker is not None:
            await self._taskiq_worker.aclose()

    async def _check_worker(self, _: AppContext) -> None:
        if self._worker is None or not self._worker.healthy:
            raise ServiceUnavailableException


class _Subscribers(Mapping[type[Event], Sequence[TaskPolicy]]):
    """Which tasks an event starts, as the routers say at the time."""

    def __init__(self, routers: Sequence[TaskRouter]) -> None:
        self._routers = routers

    def __getitem__(self, event: type[Event]) -> Sequence[TaskPolicy]:
        return [policy for router in self._routers for policy in router.policies(event)]

    def __iter__(self) -> Iterator[type[Event]]:
        return iter(dict.fromkeys(chain.from_iterable(router.subscriptions for router in self._routers)))

    def __len__(self) -> int:
        return len(list(iter(self)))


class _Health:
    """The checks of what every app needs, given as any plugin gives its own."""

    def __init__(self, kit: AppKit) -> None:
        self._kit = kit

    @hookimpl
    def register_health_checks(self) -> list[HealthCheck]:
        return [HealthCheck("database", _ping), HealthCheck("tasks", self._kit._check_worker)]  # noqa: SLF001 - its own


async def _ping(app: AppContext) -> None:
    await app.database.ping()
