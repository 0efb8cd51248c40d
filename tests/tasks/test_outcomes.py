"""The outcomes of failed attempts."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

import asyncio
import logging
from datetime import timedelta

import pytest

from appkit.core import context
from appkit.exceptions import (
    ConflictException,
    ConstraintViolatedException,
    NotFoundException,
    ServiceUnavailableException,
    StaleVersionException,
    TooManyRequestsException,
)
from appkit.tasks.arguments import InvalidArguments
from appkit.tasks.context import TaskContext, TaskSession
from appkit.tasks.outcomes import Discard, Outcome, Retry, Snooze, backoff, decide_outcome
from appkit.tasks.router import enqueue


class SpoiltException(ConflictException):
    """The milk has gone off."""

    internal_code = 40943
    detail = "The milk has gone off."


def verdict(error: BaseException, attempts: int = 1, max_attempts: int = 3) -> Outcome:
    return decide_outcome(error, attempts=attempts, max_attempts=max_attempts, delay=10, max_delay=100)


@pytest.mark.parametrize("error", [SpoiltException(), NotFoundException(), InvalidArguments("They don't fit.")])
def test_permanent_error_is_not_retried(error):
    assert verdict(error).retry_in is None
    assert verdict(error).code in {"40943", "40400", "TASK_ARGUMENTS_INVALID"}


@pytest.mark.parametrize(
    "error",
    [
        ServiceUnavailableException(),
        TooManyRequestsException(),
        StaleVersionException(),
        ConstraintViolatedException(),
        ValueError("reason"),
        TimeoutError(),
    ],
)
def test_transient_error_is_retried_until_attempts_are_spent(error):
    assert verdict(error).retry_in is not None
    assert verdict(error, attempts=3).retry_in is None
    assert verdict(error).code


def test_retry_after_is_respected():
    assert verdict(TooManyRequestsException(retry_after=70)).retry_in == 70


def test_exception_decides_by_retryable():
    class Final(Exception):
        retryable = False

    assert verdict(Final("over")) == Outcome(
        "test_exception_decides_by_retryable.<locals>.Final: over", verdict(Final("over")).code
    )


def test_delays_double_up_to_the_maximum_with_jitter():
    for attempts, expected in [(1, 10), (2, 20), (3, 40), (4, 80), (5, 100), (5000, 100)]:
        delays = {backoff(attempts, 10, 100) for _ in range(50)}
        assert len(delays) > 40
        assert all(0.75 * expected <= delay <= 1.25 * expected for delay in delays)


async def test_domain_error_is_dead_at_once_with_its_code(app):
    @app.router.task
    async def work() -> None:
        raise SpoiltException

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        (row,) = await app.settled()

    assert (row.state, row.attempts, row.error_code) == ("dead", 1, "40943")
    assert row.last_error == "SpoiltException: The milk has gone off."


async def test_task_asks_for_a_retry(make_app, caplog):
    app = await make_app(max_attempts=2)
    told = []

    class Watcher:
        from appkit.plugins.markers import hookimpl

        @hookimpl
        async def on_exception(self, exception):
            told.append(exception)

    app.context.plugins.register(Watcher(), "watcher")

    @app.router.task
    async def work(db: TaskSession) -> None:
        await app.effect(db, "undone")
        raise Retry(timedelta(seconds=0.01), "The other side is not ready.")

    with caplog.at_level(logging.WARNING):
        async with app.working():
            async with app.session() as db:
                enqueue(db, work)
            (row,) = await app.settled()

    assert (row.state, row.attempts, row.error_code) == ("dead", 2, "TASK_RETRIED")
    assert row.last_error == "The other side is not ready."
    assert await app.effects() == []
    assert told == []


async def test_snooze_counts_no_attempt(make_app):
    app = await make_app(max_attempts=1)
    attempts = []

    @app.router.task
    async def work(ctx: TaskContext) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) < 3:
            raise Snooze(0.01)

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        (row,) = await app.settled()

    assert attempts == [1, 1, 1]
    assert (row.state, row.attempts, row.error_code) == ("done", 1, None)


async def test_discarded_task_is_cancelled(app):
    @app.router.task
    async def work() -> None:
        raise Discard("They closed their account.")

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        (row,) = await app.settled()

    assert (row.state, row.attempts, row.error_code) == ("cancelled", 1, "TASK_DISCARDED")
    assert row.last_error == "They closed their account."


async def test_person_and_trace_of_the_request_reach_the_task(app):
    from opentelemetry import trace
    from opentelemetry.propagate import extract
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

    seen = []

    @app.router.task
    async def look() -> None:
        span = trace.get_current_span().get_span_context()
        seen.append((context.user_id.get(), f"{span.trace_id:x}", span.is_remote))

    span = NonRecordingSpan(SpanContext(0xABC, 0x123, is_remote=False, trace_flags=TraceFlags(1)))
    context.user_id.set("somebody")
    with trace.use_span(span):
        async with app.session() as db:
            enqueue(db, look)
    context.user_id.set(None)
    async with app.working():
        (row,) = await app.settled()

    assert seen == [("somebody", "abc", True)]
    assert extract(row.payload["labels"])
    assert context.user_id.get() is None


async def test_attempt_knows_its_deadline(app):
    seen = []

    @app.router.task(timeout=30)
    async def work(ctx: TaskContext) -> None:
        seen.append(ctx.deadline)

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        (row,) = await app.settled()

    assert timedelta(seconds=25) < seen[0] - row.started_at < timedelta(seconds=35)


async def test_result_is_written_once_the_database_is_back(app, monkeypatch):
    started, release = asyncio.Event(), asyncio.Event()

    @app.router.task
    async def work() -> None:
        started.set()
        await release.wait()

    broker = app.broker()
    async with app.working(broker):
        async with app.session() as db:
            enqueue(db, work)
        await asyncio.wait_for(started.wait(), 30)
        failures = []

        async def refuse(*_: object, **__: object) -> None:
            failures.append(1)
            if len(failures) == 3:
                monkeypatch.undo()
            raise ServiceUnavailableException

        monkeypatch.setattr(broker.queue, "exchange", refuse)
        release.set()
        (row,) = await app.settled()

    assert len(failures) == 3
    assert (row.state, row.attempts) == ("done", 1)


async def test_old_rows_are_deleted(make_app):
    app = await make_app(keep_done=0, keep_dead=100, max_attempts=1)

    @app.router.task
    async def work(fails: bool) -> None:
        if fails:
            raise ValueError

    async with app.session() as db:
        enqueue(db, work, False)
        enqueue(db, work, True)
    broker = app.broker()
    async with app.working(broker):
        await app.settled()
        assert await broker.maintenance.prune() == 1

    assert [row.state for row in await app.rows()] == ["dead"]
