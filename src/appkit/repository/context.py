"""AppContext: the parts of a running app, such as settings, mailer and cache. Each database session has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncSession

from appkit.core.keys import derive
from appkit.exceptions import AppKitError
from appkit.repository.database import on_commit

if TYPE_CHECKING:
    from appkit.core.cache import Cache
    from appkit.core.limits import Limiter
    from appkit.core.mail import Mailer
    from appkit.core.settings import Settings
    from appkit.plugins.manager import PluginManager
    from appkit.repository.database import Database, Hook
    from appkit.repository.outbox import TaskPolicy
    from appkit.repository.user import BaseUser


@dataclass(kw_only=True)
class AppContext:
    """The parts of one app, for code that has only a database session. `AppKit` makes it."""

    settings: "Settings"
    plugins: "PluginManager"
    database: "Database"
    mailer: "Mailer"
    cache: "Cache"
    limiter: "Limiter"
    user_model: "type[BaseUser]"
    subscribers: "Mapping[type[Any], Sequence[TaskPolicy]]"
    """The tasks to enqueue for an event, by the event's exact class. Tasks that are declared later are added."""
    wake: "Hook" = lambda: None
    """Wakes this process's worker after a commit that enqueued tasks. Without a worker, it does nothing."""
    works: bool = False
    """Whether this process has an embedded worker."""
    resources: dict[type[Any], Any] = field(default_factory=dict, repr=False)
    """Objects that higher layers keep for this app, by class."""

    def derive_key(self, purpose: str) -> bytes:
        """A secret key for one purpose, derived from the first secret in `AUTH_SECRET_KEYS`."""
        return derive(self.settings.signing_keys[0], purpose)

    @property
    def notifies(self) -> bool:
        """Whether a commit that enqueued tasks notifies workers in other processes."""
        notify = self.settings.tasks.notify
        return not self.database.sqlite and (notify == "on" or (notify == "auto" and not self.works))


def app_context(session: AsyncSession) -> AppContext:
    """The app that a database session belongs to.

    Raises:
        AppKitError: When the session belongs to no app, because a `Database` without an app opened it.
    """
    context = session.info.get("appkit")
    if not isinstance(context, AppContext):
        raise AppKitError(
            "This session belongs to no app. Open it with `kit.session()`, not with the `session()` of a bare Database."
        )
    return context


def invalidate(session: AsyncSession, *tags: str) -> None:
    """Delete the cached values with any of these tags after the session's commit. A rollback deletes none.

    Raises:
        AppKitError: When the session belongs to no app.
    """
    cache = app_context(session).cache
    on_commit(session, lambda: cache.invalidate(*tags))
