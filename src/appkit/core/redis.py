"""Redis calls that may fail: the app goes on without an answer while the server is down."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from redis.asyncio import Redis

TIMEOUT: Final = 1.0
"""Seconds to wait for an answer. After a timeout, Redis isn't called for this time, so that not every request waits."""

AnswerT = TypeVar("AnswerT")

_logger = logging.getLogger(__name__)


class BestEffort:
    """Calls Redis, and falls back to a default when it doesn't answer. Logs when Redis goes down and when it is back.

    Args:
        redis: The client; None for a store in this process.
        loss: What doesn't work while Redis is down: a sentence for the log.
    """

    def __init__(self, redis: "Redis | None", loss: str) -> None:
        self._failures: tuple[type[Exception], ...] = ()
        if redis is not None:
            from redis import RedisError

            self._failures = (RedisError, OSError, TimeoutError)
        self._loss = loss
        self._resumes_at: float | None = None

    async def call(self, ask: Callable[[], Awaitable[AnswerT]], otherwise: AnswerT, *, urgent: bool = False) -> AnswerT:
        """What `ask` returns, or `otherwise`. An urgent call is made even if Redis has just failed to answer."""
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
