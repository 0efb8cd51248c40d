"""What becomes of an attempt that did not end well, and what a task may raise to say so itself."""

import random
from datetime import timedelta
from typing import NamedTuple

from taskiq.exceptions import NoResultError

from appkit.exceptions import APIException
from appkit.tasks.arguments import InvalidArguments


class Wish(NoResultError):
    """Never raised directly: what a task raises to say what is to become of it. What its `TaskSession` did is undone.

    Taskiq's own word for an end without a result, so that no worker takes it for a failure.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Retry(Wish):
    """Raised in a task: this attempt came to nothing, and the next one should wait for so long.

    Args:
        delay: Seconds to wait.
        reason: What to write to the row.
    """

    def __init__(self, delay: float | timedelta, reason: str = "It asked for another attempt.") -> None:
        super().__init__(reason)
        self.delay = delay.total_seconds() if isinstance(delay, timedelta) else delay


class Snooze(Retry):
    """Raised in a task: it is too early, and this doesn't count as an attempt.

    Args:
        delay: Seconds to wait.
        reason: What to write to the row.
    """

    def __init__(self, delay: float | timedelta, reason: str = "It was too early.") -> None:
        super().__init__(delay, reason)


class Discard(Wish):
    """Raised in a task: there is nothing to do any more. It is cancelled, which is no failure.

    Args:
        reason: What to write to the row.
    """

    def __init__(self, reason: str = "There was nothing to do any more.") -> None:
        super().__init__(reason)


class Outcome(NamedTuple):
    """What the row will say."""

    error: str
    code: str
    retry_in: float | None = None
    """Seconds until the next attempt; None when there is none."""
    counts: bool = True
    """Whether this was an attempt."""
    cancelled: bool = False


def judge(error: BaseException, *, attempts: int, max_attempts: int, delay: float, max_delay: float) -> Outcome:
    """What becomes of a task that ended with an exception.

    Args:
        error: The exception.
        attempts: How many attempts this makes.
        max_attempts: How many there may be.
        delay: Seconds before the second attempt.
        max_delay: Seconds before any.
    """
    match error:
        case InvalidArguments():
            return Outcome(str(error), error.code)
        case Discard():
            return Outcome(str(error), "TASK_DISCARDED", cancelled=True)
        case Snooze():
            return Outcome(str(error), "TASK_SNOOZED", error.delay, counts=False)
        case Retry():
            return Outcome(str(error), "TASK_RETRIED", error.delay if attempts < max_attempts else None)
        case APIException():
            code, wanted = str(error.internal_code), float(error.headers.get("Retry-After", 0))
        case _:
            code, wanted = type(error).__qualname__[:64], 0.0
    message = f"{type(error).__qualname__}: {error}".removesuffix(": ")[:4000]
    if attempts >= max_attempts or not getattr(error, "retryable", True):
        return Outcome(message, code)
    return Outcome(message, code, max(wanted, backoff(attempts, delay, max_delay)))


def backoff(attempts: int, delay: float, max_delay: float) -> float:
    """Seconds to wait after so many attempts: twice as long after each, and never all at the same moment."""
    doubled = delay * 2.0 ** min(attempts - 1, 32)
    return min(max_delay, doubled) * random.uniform(0.75, 1.25)  # noqa: S311 - not for secrets
