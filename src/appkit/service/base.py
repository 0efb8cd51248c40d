"""BaseService: a session, the moves that every rule needs, and the events it emits."""

from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from appkit.core.cache import Cache
from appkit.core.settings import Settings
from appkit.domain.events import Event, event_name
from appkit.plugins.manager import PluginManager
from appkit.repository.context import app_context
from appkit.repository.enqueueing import add_task
from appkit.repository.outbox import TaskPolicy
from appkit.repository.repository import Repository

if TYPE_CHECKING:
    from appkit.core.limits import Limiter

ModelT = TypeVar("ModelT")

ON_EVENT = TaskPolicy(name="appkit.plugins:on_event")
"""The task that tells a plugin of an event."""


class BaseService:
    """Rules that share one session, and with it one transaction.

    A service needs nothing but its session, so a route, a task and a test all write `PostService(db)`.
    It flushes and never commits: whoever opened the session ends its transaction.
    """

    def __init__(self, db: AsyncSession) -> None:
        self.db = db

    @property
    def settings(self) -> Settings:
        """The app's settings.

        Raises:
            AppKitError: When the session belongs to no app.
        """
        return app_context(self.db).settings

    @property
    def cache(self) -> Cache:
        """The app's cache.

        Raises:
            AppKitError: When the session belongs to no app.
        """
        return app_context(self.db).cache

    @property
    def limiter(self) -> "Limiter":
        """The app's rate limits.

        Raises:
            AppKitError: When the session belongs to no app.
        """
        return app_context(self.db).limiter

    @property
    def plugins(self) -> PluginManager:
        """The app's plugins.

        Raises:
            AppKitError: When the session belongs to no app.
        """
        return app_context(self.db).plugins

    async def save(self, obj: ModelT) -> ModelT:
        """Write a new or changed object, so that what the database fills in can be read."""
        self.db.add(obj)
        await self.db.flush()
        return obj

    async def delete(self, obj: object) -> None:
        """Delete an object that the session holds; hide it, where it is a `SoftDelete` model's."""
        await Repository(self.db, type(obj)).delete(obj)

    def emit(self, event: Event) -> None:
        """Say what happened: once the transaction has committed, each subscriber of exactly this class runs.

        Plugins that implement `on_event` hear of it in the same way, each in a task of its own.

        Raises:
            AppKitError: When the session belongs to no app.
        """
        app = app_context(self.db)
        for policy in app.subscribers.get(type(event), ()):
            add_task(self.db, policy, [event])
        for plugin in app.plugins.names("on_event"):
            add_task(self.db, ON_EVENT, [plugin, event_name(type(event)), event])
