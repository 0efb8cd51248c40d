"""Watch: whoever waits for work, woken when there is news of some, and looking now and then without."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from appkit.tasks.broker import OutboxBroker

T = TypeVar("T")

IDLE: Final = 10.0
"""Seconds between looks at the most, where nothing has come for a while and PostgreSQL tells of commits."""

logger = logging.getLogger(__name__)


class Watch(Generic[T]):
    """Takes whatever there is to take. Nothing depends on being woken but how soon that is.

    Args:
        broker: Whose work it is.
        take: Takes some of it; what it returns is false when there is none.
    """

    def __init__(self, broker: "OutboxBroker", take: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._broker = broker
        self._take = take
        self._woken = asyncio.Event()
        self._idle = 0
        """Looks that found nothing, since there was something."""
        self.healthy = True
        """Whether the last look went well."""

    def wake(self) -> None:
        """Look now; from the event loop."""
        self._woken.set()

    async def next(self) -> T:
        """What there is, as soon as there is something. A database that fails is asked again, ever later."""
        failures = 0
        while True:
            try:
                taken, patience = await uninterrupted(self._look())
            except Exception:
                self.healthy = False
                logger.exception("The outbox could not be read.")
                failures += 1
                await self.wait(min(30.0, self._broker.interval * 2**failures))
                continue
            self.healthy, failures = True, 0
            if taken:
                return taken
            await self.wait(patience)

    async def wait(self, patience: float) -> None:
        """Wait until woken, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._woken.wait()

    async def _look(self) -> tuple[T | None, float]:
        woken = self._woken.is_set()
        self._woken.clear()
        chores, look = self._broker.chores, None
        if chores.due or (self._idle and not woken):
            look = await chores.run()
        if (look is None or look.ready or woken) and (taken := await self._take()):
            self._idle = 0
            return taken, 0
        self._idle = 1 if look is None or look.ready else self._idle + 1
        patience = self._patience() * random.uniform(0.8, 1.2)  # noqa: S311 - so that not all ask at once
        return None, patience if look is None or look.wait is None else min(patience, look.wait)

    def _patience(self) -> float:
        broker = self._broker
        if not broker.listens:
            return broker.interval
        longest = max(broker.interval, min(IDLE, broker.settings.tasks.lease / 3))
        return min(longest, broker.interval * 2.0 ** min(self._idle - 1, 16))


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Let work end before a cancellation: a connection that is dropped in the middle of a query can't be used again."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
