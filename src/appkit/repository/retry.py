"""Retry: which failures go away when the whole unit of work is done again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from appkit.exceptions import ServiceUnavailableException

T = TypeVar("T")

_STATES = {"40001", "40P01"}  # Serialisation failure, deadlock.
_PAUSE = 0.05  # seconds


async def repeat(work: Callable[[], Awaitable[T]], attempts: int) -> T:
    """Do the work, and do it again when others were in its way, after a pause that grows and is never the same.

    Args:
        work: A whole unit of work, translated failures and all.
        attempts: How often it is done at the most.
    """
    for attempt in range(1, attempts):
        try:
            return await work()
        except ServiceUnavailableException as exc:
            if not _was_rolled_back(exc.__cause__):
                raise
        await asyncio.sleep(random.uniform(0.5, 1) * _PAUSE * 2**attempt)  # noqa: S311 - not for secrets
    return await work()


def _was_rolled_back(exc: BaseException | None) -> bool:
    """Whether the database did nothing of it, and says so; of a lost connection nobody knows."""
    if not isinstance(exc, DBAPIError):
        return False
    driver = exc.driver_exception
    busy = getattr(driver, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
    return busy or getattr(driver, "sqlstate", None) in _STATES
