"""The cache, for those who change what it shows."""

from sqlalchemy.ext.asyncio import AsyncSession

from appkit.repository.context import app_context
from appkit.repository.database import on_commit


def invalidate(session: AsyncSession, *tags: str) -> None:
    """Forget the cached values with any of these tags once the session's work is committed; never, if it isn't.

    Raises:
        AppKitError: When the session belongs to no app.
    """
    cache = app_context(session).cache
    on_commit(session, lambda: cache.invalidate(*tags))
