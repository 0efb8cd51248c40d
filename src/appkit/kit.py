"""AppKit: builds an app from its settings, database, broker, plugins and routes. Imports every layer below it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cached_property
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from fastapi import APIRouter, FastAPI
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.api import hookspecs as api_hooks
from appkit.api.app import create_app, install
from appkit.core import hookspecs as core_hooks
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
from appkit.plugins.manager import PluginManager
from appkit.plugins.markers import hookimpl, hookspec
from appkit.repository.context import AppContext
from appkit.repository.database import Database
from appkit.repository.outbox import TaskPolicy
from appkit.repository.user import BaseUser, resolve_user_model
from appkit.service import hookspecs as service_hooks
from appkit.tasks import hookspecs as tasks_hooks
from appkit.tasks.router import TaskRouter

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from typer import Typer

    from appkit.tasks.outbox_broker import OutboxBroker
    from appkit.tasks.worker import Worker


class AppKit:
    """An app: its settings, its database, its broker, its plugins and its routes.

    Each part is built at first use. You can define models, routes and tasks after the kit.

    Args:
        settings: The app's settings, by default from the environment.
        routers: Routers to mount under `settings.api_prefix`.
        task_routers: Routers of tasks, in addition to the tasks declared on the kit.
        plugins: The app's own plugins: modules or objects with hook implementations.
        hooks: Modules with hooks that the app offers to plugins: functions marked `hookspec`.
        user_model: The user model, if the app maps more than one subclass of `BaseUser`.
        discover: Whether to load installed plugins too.
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

    @cached_property
    def settings(self) -> Settings:
        """The app's settings, with the groups of its plugins.

        Raises:
            AppKitError: When a value is invalid; the message names each variable.
        """
        groups: dict[str, type[SettingsGroup]] = {}
        for more in self.plugins.collect("register_settings"):
            if twice := groups.keys() & more.keys():
                raise AppKitError(f"Two plugins register settings called {min(twice)!r}. Disable one of the plugins.")
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
        """The plugins. Those of the app are called first, then the installed plugins, then appkit's own."""
        settings = self._own_settings
        manager = PluginManager((*HOOKS, *self._hooks), **dict(settings.plugins))
        manager.register(Monitoring(settings), "monitoring")
        check = api_hooks.HealthCheck
        checks = [check("database", lambda app: app.database.ping()), check("tasks", self._check_worker)]
        manager.register(SimpleNamespace(register_health_checks=hookimpl(lambda: checks)), "health")
        manager.register(Watchdog(settings), "watchdog")
        if self._discover:
            manager.load_installed()
        for plugin in self._plugins:
            manager.register(plugin)
        return manager

    @cached_property
    def context(self) -> AppContext:
        """The parts of the app that services, routes and tasks use."""
        import appkit.repository.auth  # noqa: F401 - every app with a kit has these tables

        database = Database(self.settings.database)
        database.context = context = AppContext(
            settings=self.settings,
            plugins=self.plugins,
            database=database,
            mailer=create_mailer(self.settings),
            cache=Cache(self.redis, prefix=self.settings.app_name),
            limiter=Limiter(self.settings, self.redis),
            user_model=resolve_user_model(self._user_model),
            subscribers=_Subscribers(self._task_routers),
        )
        return context

    @property
    def database(self) -> Database:
        """The database."""
        return self.context.database

    @property
    def mailer(self) -> Mailer:
        """The mailer for `MAIL_URL`."""
        return self.context.mailer

    @property
    def cache(self) -> Cache:
        """The cache, in Redis if `REDIS_URL` is set."""
        return self.context.cache

    @property
    def limiter(self) -> Limiter:
        """The rate limiter, which counts in Redis if `REDIS_URL` is set."""
        return self.context.limiter

    @cached_property
    def redis(self) -> "Redis | None":
        """The client of the server at `REDIS_URL`; None if the variable isn't set."""
        if self.settings.redis.url is None:
            return None
        from redis.asyncio import Redis

        return Redis.from_url(self.settings.redis.url)

    @cached_property
    def broker(self) -> "OutboxBroker":
        """The Taskiq broker with all tasks. `taskiq worker` can also run it.

        Raises:
            AppKitError: When the scheme of `TASKS_BROKER_URL` is unknown, or two tasks have the same name.
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
        """Install the kit into an existing FastAPI app, which then becomes `kit.app`."""
        install(app, self.context, self._routers, self.lifespan)
        self.app = app

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A database session that commits when the block ends, and rolls back when the block raises."""
        return self.database.session()

    @asynccontextmanager
    async def lifespan(self, *, work: bool | None = None) -> AsyncIterator[None]:
        """Start the parts of the app, and stop them in reverse order. The ASGI lifespan and workers enter this context.

        Args:
            work: Whether this process runs tasks, by default `TASKS_EMBEDDED`.

        Raises:
            AppKitError: When the database can't be migrated to the schema that the models need.
        """
        from appkit.tasks.broker import register_tasks
        from appkit.tasks.worker import Worker

        async with AsyncExitStack() as stack:
            await self._start(stack)
            register_tasks(self.broker, self._task_routers)  # Again, for tasks declared after the broker was built.
            self._worker = await stack.enter_async_context(Worker(self.broker, work=work))
            yield
            self._worker = None

    async def _start(self, stack: AsyncExitStack) -> None:
        """Start everything except the worker."""
        from appkit.repository.migrations import migrate_at_start

        settings, database = self.settings, self.settings.database
        configure_logging(settings)
        stack.push_async_callback(self._close)
        await migrate_at_start(self.database, database.migrations, database.migrate, production=settings.production)
        await self.plugins.enter(stack, kit=self)

    async def _close(self) -> None:
        if (redis := self.__dict__.get("redis")) is not None:
            await redis.aclose()
        await self.database.dispose()

    async def _start_worker(self, _: object) -> None:
        """Start the parts of the app in `taskiq worker`. Unlike `appkit worker`, it doesn't enter `lifespan`."""
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
    """The subscribers of each event. Not a dict, because tasks may be declared at any time."""

    def __init__(self, routers: Sequence[TaskRouter]) -> None:
        self._routers = routers

    def __getitem__(self, event: type[Event]) -> Sequence[TaskPolicy]:
        return [policy for router in self._routers for policy in router.policies(event)]

    def __iter__(self) -> Iterator[type[Event]]:
        return iter({event for router in self._routers for event in router.subscriptions})

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Check(NamedTuple):
    """A problem that `appkit check` looks for."""

    code: str
    """The code of the check, such as `BILLING001`."""
    problem: str
    """What is wrong, in a sentence."""
    fix: str
    """How to fix it, in a sentence."""
    find: "Callable[[AppKit], Iterable[str] | Awaitable[Iterable[str]]]"
    """Returns the places that have the problem, each in a few words."""
    deploy: bool = False
    """Whether the check runs only with `--deploy`, because the problem matters only in production."""
    url: str | None = None
    """A page that explains the problem."""


class KitHooks(Protocol):
    """The hooks that extend the kit."""

    @hookspec
    def lifespan(self, kit: AppKit) -> AbstractAsyncContextManager[None]:
        """Open resources of the process. The app and each worker enter this context after the migrations.

        Example:
            ```python
            @hookimpl
            @asynccontextmanager
            async def lifespan(kit):
                async with SearchClient(kit.settings.group(SearchSettings).url):
                    yield
            ```
        """

    @hookspec
    def register_commands(self, cli: "Typer", kit: AppKit) -> None:
        """Add commands to `appkit`. Called when the first word on the command line isn't a command of appkit.

        Args:
            kit: The app. A command starts it with `anyio.run` and `kit.lifespan(work=False)`.

        Example:
            ```python
            @hookimpl
            def register_commands(cli):
                cli.add_typer(billing_commands, name="billing")
            ```
        """

    @hookspec
    def register_checks(self) -> list[Check]:
        """Add checks to `appkit check`. Called by that command.

        Example:
            ```python
            def find_unpriced(kit):
                return [name for name, price in PRICES.items() if price is None]


            @hookimpl
            def register_checks():
                return [Check("SHOP001", "An article has no price.", "Give it one.", find_unpriced)]
            ```
        """


HOOKS: Final = (core_hooks, service_hooks, tasks_hooks, api_hooks, KitHooks)
"""The modules and classes that declare appkit's hooks."""
