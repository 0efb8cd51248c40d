"""Running tasks, from the commit to the end of a task."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

import asyncio
import logging
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import update

from appkit.core import context
from appkit.domain.events import Event
from appkit.repository.base import utcnow
from appkit.repository.enqueueing import add_task
from appkit.repository.outbox import OutboxTask
from appkit.repository.queue import TaskQueue
from appkit.service.base import BaseService
from appkit.tasks.context import TaskContext, TaskSession
from appkit.tasks.router import enqueue, enqueue_many


class Happened(Event):
    thing_id: UUID


async def test_task_runs_after_commit(app):
    ran = []

    @app.router.task
    async def note(number: int) -> None:
        ran.append(number)

    async with app.working():
        async with app.session() as db:
            handle = enqueue(db, note, 7)
            await asyncio.sleep(0.3)
            assert ran == []
        (row,) = await app.settled()

    assert ran == [7]
    assert (row.task_id, row.state, row.attempts) == (handle.task_id, "done", 1)


async def test_rolled_back_task_never_runs(app):
    @app.router.task
    async def note() -> None:
        raise AssertionError

    async with app.session() as db:
        enqueue(db, note)
        await db.rollback()

    assert await app.rows() == []


async def test_subscriber_gets_the_event_itself(app):
    got = []

    @app.router.on(Happened)
    async def first(event: Happened) -> None:
        got.append(event)

    @app.router.on(Happened)
    def second(ctx: TaskContext, event: Happened) -> None:
        got.append(event)

    event = Happened(thing_id=uuid4())
    async with app.working():
        async with app.session() as db:
            BaseService(db).emit(event)
        await app.settled()

    assert got == [event, event]


async def test_commit_wakes_a_worker(make_app):
    app = await make_app(poll_interval=600, lease=6000)
    started: asyncio.Queue[None] = asyncio.Queue()

    @app.router.task
    async def note() -> None:
        started.put_nowait(None)

    async with app.working():
        for _ in range(5):  # The first poll may find the first task. The next poll is ten minutes later.
            async with app.session() as db:
                enqueue(db, note)
            await asyncio.wait_for(started.get(), 60)


async def test_failing_task_is_tried_again_and_then_dead(make_app, caplog):
    app = await make_app(max_attempts=3)
    attempts = []

    @app.router.task
    async def fail(ctx: TaskContext) -> None:
        attempts.append(ctx.attempt)
        raise ValueError("a reason")

    async with app.working():
        async with app.session() as db:
            enqueue(db, fail)
        (row,) = await app.settled()

    assert attempts == [1, 2, 3]
    assert (row.state, row.last_error) == ("dead", "ValueError: a reason")
    assert row.finished_at is not None


async def test_retry_waits_for_its_delay(app):
    times = []

    @app.router.task(retry_delay=600, max_attempts=2)
    async def fail() -> None:
        times.append(utcnow())
        raise ValueError

    async with app.working():
        async with app.session() as db:
            enqueue(db, fail)
        (row,) = await app.until(lambda rows: rows[0].state == "scheduled")
        seen = utcnow()
        async with app.session() as db:
            await db.execute(update(OutboxTask).values(run_at=times[0]))
        await app.settled()

    # Ten minutes, with a jitter of 25 %.
    assert timedelta(minutes=7.5) < row.run_at - times[0]
    assert row.run_at - seen < timedelta(minutes=12.5)
    assert len(times) == 2


async def test_timeout_is_a_failure(app):
    @app.router.task(timeout=0.1, max_attempts=1)
    async def dawdle() -> None:
        await asyncio.sleep(10)

    async with app.working():
        async with app.session() as db:
            enqueue(db, dawdle)
        (row,) = await app.settled()

    assert (row.state, row.last_error) == ("dead", "TimeoutError")


async def test_def_runs_in_a_thread_of_a_bounded_pool(make_app):
    import threading
    import time

    app = await make_app(concurrency=2)
    threads = set()

    @app.router.task
    def work() -> None:
        threads.add(threading.current_thread())
        assert context.task_id.get() is not None
        time.sleep(0.05)

    async with app.working():
        async with app.session() as db:
            for _ in range(8):
                enqueue(db, work)
        rows = await app.settled()

    assert {row.state for row in rows} == {"done"}
    assert len(threads) <= 2
    assert threading.main_thread() not in threads


async def test_no_more_tasks_are_claimed_than_can_run(make_app):
    app = await make_app(concurrency=3)
    release = asyncio.Event()
    running = 0
    most = 0

    @app.router.task
    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1

    async with app.session() as db:
        for _ in range(10):
            enqueue(db, work)
    async with app.working():
        rows = await app.until(lambda rows: sum(row.state == "running" for row in rows) == 3)
        await asyncio.sleep(0.3)
        assert [row.state for row in await app.rows()].count("running") == 3
        release.set()
        rows = await app.settled()

    assert most == 3
    assert {row.attempts for row in rows} == {1}


async def test_ids_of_the_request_reach_the_task(app):
    seen = []

    @app.router.task
    async def look() -> None:
        seen.append((context.request_id.get(), context.task_id.get()))

    context.request_id.set("request-1")
    async with app.session() as db:
        handle = enqueue(db, look)
    context.request_id.set(None)
    async with app.working():
        await app.settled()

    assert seen == [("request-1", handle.task_id)]
    assert context.task_id.get() is None


async def test_exceptions_reach_plugins(make_app):
    from appkit.plugins.markers import hookimpl

    app = await make_app(max_attempts=1)
    told = []

    class Watcher:
        @hookimpl
        async def on_exception(self, exception):
            told.append((str(exception), context.request_id.get(), context.task_id.get() is not None))

    app.context.plugins.register(Watcher(), "watcher")

    @app.router.task
    async def fail() -> None:
        raise ValueError("a reason")

    context.request_id.set("request-2")
    async with app.session() as db:
        enqueue(db, fail)
    context.request_id.set(None)
    async with app.working():
        await app.settled()

    assert told == [("a reason", "request-2", True)]


async def test_progress_is_seen_while_the_task_runs(app):
    reported, release = asyncio.Event(), asyncio.Event()

    @app.router.task
    async def work(ctx: TaskContext, db: TaskSession) -> None:
        await ctx.progress(40, "halfway, nearly")
        reported.set()
        await release.wait()
        await app.effect(db, "worked")

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        await asyncio.wait_for(reported.wait(), 30)
        (row,) = await app.rows()
        release.set()
        await app.settled()

    assert row.progress == {"percent": 40, "step": "halfway, nearly"}
    assert await app.effects() == ["worked"]


async def test_context_gives_what_the_app_has(app):
    seen = []

    @app.router.task
    async def look(ctx: TaskContext) -> None:
        async with ctx.session() as db:
            await app.effect(db, ctx.settings.environment)
        async with ctx.read_session() as db:
            seen.append((ctx.mailer is app.context.mailer, ctx.task_id, ctx.attempt))

    async with app.working():
        async with app.session() as db:
            handle = enqueue(db, look)
        (row,) = await app.settled()

    assert row.last_error is None
    assert seen == [(True, handle.task_id, 1)]
    assert await app.effects() == ["test"]


async def test_task_without_app_context_is_polled(app):
    """A poll finds the rows that were written without a notification."""
    ran = asyncio.Event()

    @app.router.task
    async def note() -> None:
        ran.set()

    async with app.working():
        async with app.session() as db:
            db.info.clear()
            add_task(db, note.policy)
        await asyncio.wait_for(ran.wait(), 30)


async def test_unknown_tasks_stay_pending_and_are_logged(app, caplog):
    @app.router.task(name="new:task")
    async def note() -> None:
        raise AssertionError

    async with app.session() as db:
        enqueue(db, note)
    app.router.tasks.clear()
    with caplog.at_level(logging.WARNING):
        async with app.working(), asyncio.timeout(60):
            while "tasks are named" not in caplog.text:  # noqa: ASYNC110 - a log has no event to wait for
                await asyncio.sleep(0.01)

    assert [row.state for row in await app.rows()] == ["pending"]
    assert "1 pending tasks are named 'new:task'" in caplog.text


async def test_what_ends_is_written_with_the_claim_of_what_comes_next(make_app, monkeypatch):
    """Ten tasks run at the same time, and each transaction writes ten tasks."""
    app = await make_app(concurrency=10, poll_interval=60, lease=600)
    exchange = TaskQueue.exchange
    transactions = []

    async def counted(self, done, names, *, room):
        transactions.append((len(done), room()))
        return await exchange(self, done, names, room=room)

    monkeypatch.setattr(TaskQueue, "exchange", counted)

    @app.router.task
    async def work(number: int) -> None: ...

    async with app.session() as db:
        await enqueue_many(db, work, [(number,) for number in range(50)])
    async with app.working():
        await app.settled()

    assert transactions.count((10, 10)) >= 4
