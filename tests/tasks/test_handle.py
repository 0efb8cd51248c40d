"""TaskHandle: state, result, progress and cancellation of a task."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

import asyncio
import time
from uuid import UUID, uuid4

import pytest

from appkit.exceptions import AppKitError, ConflictException
from appkit.tasks.context import TaskContext, TaskSession
from appkit.tasks.handle import TaskFailedError, TaskHandle
from appkit.tasks.router import enqueue


class UnripeException(ConflictException):
    """The fruit is not ripe yet."""

    internal_code = 40944
    detail = "The fruit is not ripe yet."


async def test_result_is_what_the_function_returned(app):
    @app.router.task
    async def double(number: int) -> dict[str, int]:
        return {"doubled": 2 * number}

    @app.router.task
    async def with_session(number: int, db: TaskSession) -> UUID:
        await app.effect(db, "worked")
        return UUID(int=number)

    @app.router.task
    def in_a_thread(number: int, db: TaskSession) -> int:
        return number + 1

    async with app.working():
        async with app.session() as db:
            handles = [enqueue(db, task, 4) for task in (double, with_session, in_a_thread)]
        results = [await handle.result(timeout=60) for handle in handles]

    assert results == [{"doubled": 8}, str(UUID(int=4)), 5]
    assert [await handle.status() for handle in handles] == ["done"] * 3


async def test_result_that_json_cannot_hold_is_none_and_no_failure(app, caplog):
    @app.router.task
    async def odd() -> object:
        return object()

    async with app.working():
        async with app.session() as db:
            handle = enqueue(db, odd)
        assert await handle.result(timeout=60) is None

    assert "can't be serialised" in caplog.text


async def test_result_that_the_database_refuses_holds_up_no_other(make_app, database_url):
    app = await make_app(max_attempts=1)

    @app.router.task
    async def say(what: str) -> str:
        return what.replace("-", "\0")

    async with app.session() as db:
        handles = [enqueue(db, say, what) for what in ("fine", "not - fine", "fine too")]
    async with app.working():
        rows = await app.settled()

    assert [await handle.result() for handle in handles[::2]] == ["fine", "fine too"]
    if database_url.startswith("postgresql"):  # PostgreSQL's JSON can't contain NUL.
        assert (rows[1].state, rows[1].attempts) == ("dead", 1)


async def test_result_of_a_failed_task_raises_its_error(make_app):
    app = await make_app(max_attempts=1)

    @app.router.task
    async def fail() -> None:
        raise UnripeException

    async with app.working():
        async with app.session() as db:
            handle = enqueue(db, fail)
        with pytest.raises(TaskFailedError, match="is dead: UnripeException: The fruit is not ripe yet") as caught:
            await handle.result(timeout=60)

    assert caught.value.code == "40944"


async def test_waiting_ends_in_time_and_for_what_is_not_there(app):
    @app.router.task
    async def work() -> None: ...

    app.broker()
    handle = await work.kiq()

    with pytest.raises(TimeoutError, match="is still pending"):
        await handle.result(timeout=0)
    unknown = TaskHandle(uuid4().hex, app.database)
    with pytest.raises(LookupError):
        await unknown.result()
    assert await unknown.status() is None
    assert await unknown.progress() is None
    assert not await unknown.cancel()
    with pytest.raises(AppKitError, match="session without an app"):
        await TaskHandle("x").status()


async def test_taskiq_s_own_tasks_have_results(app):
    broker = app.broker()

    @broker.task
    async def add(one: int, other: int) -> int:
        return one + other

    @broker.task(max_attempts=1)
    async def fail() -> None:
        raise ValueError("a reason")

    async with app.working(broker):
        added = await (await add.kiq(1, 2)).wait_result(timeout=60)
        failed = await (await fail.kiq()).wait_result(timeout=60)

    assert (added.is_err, added.return_value) == (False, 3)
    assert failed.is_err
    assert "a reason" in str(failed.error)


async def test_progress_is_read_by_the_handle(app):
    release = asyncio.Event()

    @app.router.task
    async def work(ctx: TaskContext) -> None:
        await ctx.progress(30, "a third")
        await release.wait()

    async with app.working():
        async with app.session() as db:
            handle = enqueue(db, work)
        await app.until(lambda rows: rows[0].progress is not None)
        progress = await handle.progress()
        release.set()
        await app.settled()

    assert progress == {"percent": 30, "step": "a third"}


async def test_cancelled_task_never_starts(app):
    @app.router.task(unique_key="one")
    async def work() -> None:
        raise AssertionError

    app.broker()
    now, later = await work.kiq(), await work.with_options(delay=60, unique_key="two").kiq()

    assert await now.cancel()
    assert await later.cancel()
    assert not await now.cancel()
    async with app.working():
        await asyncio.sleep(0.2)
    rows = await app.rows()
    assert {(row.state, row.attempts, row.unique_key) for row in rows} == {("cancelled", 0, None)}
    assert all(row.keep_until > row.finished_at for row in rows)


@pytest.mark.usefixtures("quick_heartbeat")
async def test_cancelled_running_task_stops(make_app):
    app = await make_app(lease=60)
    started = asyncio.Event()

    @app.router.task
    async def work(db: TaskSession) -> None:
        await app.effect(db, "half done")
        started.set()
        await asyncio.sleep(30)

    broker = app.broker()
    async with app.working(broker):
        async with app.session() as db:
            handle = enqueue(db, work)
        await asyncio.wait_for(started.wait(), 30)
        if not app.database.sqlite:
            assert await handle.cancel()
        else:  # The task holds the writer, so neither `cancel()` nor the heartbeat can write the row.
            broker.in_flight.request_cancel(broker.in_flight.tasks())
        (row,) = await app.settled()

    assert (row.state, row.attempts, row.error_code) == ("cancelled", 1, "TASK_CANCELLED")
    assert await app.effects() == []


@pytest.mark.usefixtures("quick_heartbeat")
async def test_thread_sees_that_it_is_cancelled(make_app):
    app = await make_app(lease=60)

    @app.router.task
    def work(ctx: TaskContext) -> str:
        end = time.monotonic() + 60
        while not ctx.cancel_requested:
            assert time.monotonic() < end
            time.sleep(0.01)
        return "stopped"

    async with app.working():
        async with app.session() as db:
            handle = enqueue(db, work)
        await app.until(lambda rows: rows[0].state == "running")
        assert await handle.cancel()
        assert await handle.result(timeout=60) == "stopped"


async def test_cancelled_task_is_not_retried(make_app):
    app = await make_app(lease=60)
    started, release = asyncio.Event(), asyncio.Event()

    @app.router.task
    async def work() -> None:
        started.set()
        await release.wait()
        raise ValueError

    async with app.working():
        async with app.session() as db:
            handle = enqueue(db, work)
        await asyncio.wait_for(started.wait(), 30)
        await handle.cancel()
        release.set()
        (row,) = await app.settled()

    assert (row.state, row.attempts) == ("cancelled", 1)
