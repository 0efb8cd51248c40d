"""Redis calls that may fail: while Redis is down, the app continues with default answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from redis.asyncio import Redis

TIMEOUT: Final = 1.0
"""Seconds to wait for an answer. After a failure, Redis isn't called for this time, because each call would wait."""

AnswerT = TypeVar("AnswerT")

_logger = logging.getLogger(__name__)


class BestEffort:
    """Calls Redis, and uses a default answer when Redis fails. Logs when Redis goes down and when Redis answers again.

    Args:
        redis: The client, or None if the calls go to a store in this process.
        loss: A sentence for the log: the effect on the app while Redis is down.
    """

    def __init__(self, redis: "Redis | None", loss: str) -> None:
        self._failures: tuple[type[Exception], ...] = ()
        if redis is not None:
            from redis import RedisError

            self._failures = (RedisError, OSError, TimeoutError)
        self._loss = loss
        self._resumes_at: float | None = None

    async def call(self, ask: Callable[[], Awaitable[AnswerT]], otherwise: AnswerT, *, urgent: bool = False) -> AnswerT:
        """Return what `ask` returns, or `otherwise`. An urgent call is made even if Redis has just failed."""
        if self._resumes_at is not None and monotonic() < self._resumes_at and not urgent:
            return otherwise
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await ask()
        except self._failures as exc:
            if self._resumes_at is None:
                _logger.warning("Redis does not answer (%s). %s", str(exc) or type(exc).__name__, self._loss)
            self._resumes_at = monotonic() + TIMEOUT
            return otherwise
        if self._resumes_at is not None:
            _logger.warning("Redis answers again.")
            self._resumes_at = None
        return answer
