"""Task outcomes: whether the task of a failed attempt is retried, dead or cancelled. Also the task signals."""

import random
from datetime import timedelta
from typing import NamedTuple

from taskiq.exceptions import NoResultError

from appkit.exceptions import APIException
from appkit.tasks.arguments import InvalidArguments


class TaskSignal(NoResultError):
    """Base class of the exceptions by which a task decides its outcome. The `TaskSession` is rolled back.

    Taskiq's own workers don't count a `NoResultError` as a failure.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Retry(TaskSignal):
    """Raise this in a task to retry the task after `delay` seconds. After its last attempt, the task is dead.

    The row keeps `reason` as its error.
    """

    def __init__(self, delay: float | timedelta, reason: str = "The task asked for a retry.") -> None:
        super().__init__(reason)
        self.delay = delay.total_seconds() if isinstance(delay, timedelta) else delay


class Snooze(Retry):
    """A `Retry` that doesn't count this attempt: the task runs again after `delay` seconds."""

    def __init__(self, delay: float | timedelta, reason: str = "The task snoozed itself.") -> None:
        super().__init__(delay, reason)


class Discard(TaskSignal):
    """Raise this in a task that has nothing left to do. The task is cancelled, with `reason` as the row's error."""

    def __init__(self, reason: str = "The task discarded itself.") -> None:
        super().__init__(reason)


class Outcome(NamedTuple):
    """The outcome of an attempt that did not succeed, as written to the row."""

    error: str
    code: str
    retry_in: float | None = None
    """Seconds until the next attempt; None for no next attempt."""
    counts: bool = True
    """Whether this counts as an attempt."""
    cancelled: bool = False


def decide_outcome(
    error: BaseException, *, attempts: int, max_attempts: int, delay: float, max_delay: float
) -> Outcome:
    """Decide the outcome of an attempt that raised an exception.

    `attempts` includes this attempt. `delay` is the number of seconds before the second attempt, and `max_delay` the
    maximum number of seconds before any attempt.
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
    """Seconds before the next attempt: doubled after each attempt, with a jitter of 25 %."""
    doubled = delay * 2.0 ** min(attempts - 1, 32)
    return min(max_delay, doubled) * random.uniform(0.75, 1.25)  # noqa: S311 - not for secrets
