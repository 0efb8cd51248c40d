"""Redis, for what an app can do without for a while."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from redis.asyncio import Redis

PATIENCE: Final = 1.0
"""Seconds to wait for an answer, and then to leave the server alone, so that not every request waits for it."""

AnswerT = TypeVar("AnswerT")

_logger = logging.getLogger(__name__)


class BestEffort:
    """Asks Redis, and goes on without an answer where there is none; the log says so, and when it is over.

    Args:
        redis: The client; None where everything is done in this process.
        loss: What doesn't work meanwhile, in a sentence for the log.
    """

    def __init__(self, redis: "Redis | None", loss: str) -> None:
        self._failures: tuple[type[Exception], ...] = ()
        if redis is not None:
            from redis import RedisError

            self._failures = (RedisError, OSError, TimeoutError)
        self._loss = loss
        self._resumes_at: float | None = None

    async def ask(self, call: Callable[[], Awaitable[AnswerT]], otherwise: AnswerT, *, urgent: bool = False) -> AnswerT:
        """What `call` answers, or `otherwise`; an urgent one is tried though the server has just been silent."""
        if self._resumes_at is not None and monotonic() < self._resumes_at and not urgent:
            return otherwise
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await call()
        except self._failures as exc:
            if self._resumes_at is None:
                _logger.warning("Redis does not answer (%s). %s", str(exc) or type(exc).__name__, self._loss)
            self._resumes_at = monotonic() + PATIENCE
            return otherwise
        if self._resumes_at is not None:
            _logger.warning("Redis answers again.")
            self._resumes_at = None
        return answer
