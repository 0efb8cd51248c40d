"""BaseService: the base class of all services, with a database session, the app's parts and `emit()`."""

from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from appkit.core.cache import Cache
from appkit.core.settings import Settings
from appkit.domain.events import Event, event_name
from appkit.plugins.manager import PluginManager
from appkit.repository.context import app_context
from appkit.repository.enqueueing import add_task
from appkit.repository.outbox import TaskPolicy
from appkit.repository.repository import Repository
from appkit.repository.user import BaseUser

if TYPE_CHECKING:
    from appkit.core.limits import Limiter

ModelT = TypeVar("ModelT")

# Services read a row again after its UPDATE, so SQLAlchemy needn't search for loaded objects that the UPDATE changed.
QUIET: Final = {"synchronize_session": False}
FRESH: Final = {"populate_existing": True}

ON_EVENT = TaskPolicy(name="appkit.plugins:on_event")
"""The task that calls a plugin's `on_event()`."""


class BaseService:
    """Business rules that share one database session, and therefore one transaction.

    A service needs only a database session: a route, a task and a test all write `PostService(db)`. A service flushes,
    and leaves the commit to the code that opened the database session. Only appkit's services for
    signing in commit too: before they hash a password, and before they raise an exception that must not undo a row.

    The properties and `emit()` raise `AppKitError` if the database session belongs to no app.
    """

    def __init__(self, db: AsyncSession) -> None:
        self.db = db

    @property
    def settings(self) -> Settings:
        """The app's settings."""
        return app_context(self.db).settings

    @property
    def cache(self) -> Cache:
        """The app's cache."""
        return app_context(self.db).cache

    @property
    def limiter(self) -> "Limiter":
        """The app's rate limiter."""
        return app_context(self.db).limiter

    @property
    def plugins(self) -> PluginManager:
        """The app's plugins."""
        return app_context(self.db).plugins

    @property
    def user_model(self) -> type[BaseUser]:
        """The class of the app's users."""
        return app_context(self.db).user_model

    async def save(self, obj: ModelT) -> ModelT:
        """Write a new or changed object, and load the values that the database sets, such as defaults."""
        self.db.add(obj)
        await self.db.flush()
        return obj

    async def delete(self, obj: object) -> None:
        """Delete an object of the database session. A `SoftDelete` object is only marked as deleted."""
        await Repository(self.db, type(obj)).delete(obj)

    def emit(self, event: Event) -> None:
        """Emit an event. After the commit, one task runs for each subscriber of exactly the event's class.

        Another task runs for each plugin with an `on_event()`.
        """
        app = app_context(self.db)
        for policy in app.subscribers.get(type(event), ()):
            add_task(self.db, policy, [event])
        for plugin in app.plugins.names("on_event"):
            add_task(self.db, ON_EVENT, [plugin, event_name(type(event)), event])
