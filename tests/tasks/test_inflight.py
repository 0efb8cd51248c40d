"""In-flight tasks: claims, leases, rescue and shutdown."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import update

from appkit.repository.base import utcnow
from appkit.repository.outbox import OutboxTask
from appkit.tasks.context import TaskContext, TaskSession
from appkit.tasks.maintenance import Maintenance
from appkit.tasks.router import enqueue
from appkit.tasks.worker import Worker


async def steal(app) -> None:
    """Claim the row as another process would after the lease has expired."""
    async with app.session() as db:
        await db.execute(update(OutboxTask).values(attempts=OutboxTask.attempts + 1, lease_owner="somebody else"))


async def expire(app) -> None:
    """Move the end of all leases into the past."""
    async with app.session() as db:
        await db.execute(update(OutboxTask).values(leased_until=utcnow() - timedelta(hours=1)))


async def wait_until_idle(broker) -> None:
    """Wait until the broker has no task in flight."""
    async with asyncio.timeout(60):
        while broker.in_flight.tasks():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


async def test_task_session_is_rolled_back_when_the_lease_is_lost(make_app):
    app = await make_app(lease=60)
    reached, go_on = asyncio.Event(), asyncio.Event()

    @app.router.task
    async def work(db: TaskSession) -> None:
        reached.set()
        await go_on.wait()
        await app.effect(db, "mine")

    async with app.working() as broker:
        async with app.session() as db:
            enqueue(db, work)
        await asyncio.wait_for(reached.wait(), 30)
        await steal(app)
        go_on.set()
        await wait_until_idle(broker)
        (row,) = await app.rows()

    assert (row.state, row.attempts, row.lease_owner) == ("running", 2, "somebody else")
    assert await app.effects() == []


async def test_failure_after_a_lost_lease_changes_nothing(make_app, caplog):
    app = await make_app(lease=60)
    reached, go_on = asyncio.Event(), asyncio.Event()

    @app.router.task
    async def work() -> None:
        reached.set()
        await go_on.wait()
        raise ValueError

    async with app.working() as broker:
        async with app.session() as db:
            enqueue(db, work)
        await asyncio.wait_for(reached.wait(), 30)
        await steal(app)
        go_on.set()
        await wait_until_idle(broker)
        (row,) = await app.rows()

    assert (row.state, row.last_error) == ("running", None)
    assert "lost its lease" in caplog.text


@pytest.mark.usefixtures("quick_heartbeat")
async def test_heartbeat_cancels_a_task_that_lost_its_lease(make_app):
    app = await make_app(lease=60)
    started, stopped = asyncio.Event(), asyncio.Event()

    @app.router.task
    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            stopped.set()
            raise

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        await asyncio.wait_for(started.wait(), 30)
        await steal(app)
        await asyncio.wait_for(stopped.wait(), 30)


@pytest.mark.usefixtures("quick_heartbeat")
async def test_long_task_is_not_run_twice(make_app):
    """The task blocks the event loop for longer than its lease, while another process rescues tasks."""
    app, other = await make_app(lease=60), await make_app(lease=60)
    starts, rescued = [], []

    async def look_for_lost_tasks() -> None:
        for _ in range(3):
            await expire(other)
            await other.until(lambda rows: rows[0].leased_until > utcnow(), 60)
            rescued.extend(await Maintenance(other.database, other.settings.tasks).process_overdue())
        await other.database.dispose()

    @app.router.task
    async def work(ctx: TaskContext) -> None:
        starts.append(ctx.attempt)
        with ThreadPoolExecutor(1) as another_process:  # This blocks the event loop until the thread ends.
            another_process.submit(asyncio.run, look_for_lost_tasks()).result()

    async with app.session() as db:
        enqueue(db, work)
    async with app.working():
        (row,) = await app.settled()

    assert rescued == []
    assert starts == [1]
    assert (row.state, row.attempts) == ("done", 1)


async def test_task_of_a_dead_process_is_rescued(make_app):
    app = await make_app(lease=60)

    @app.router.task
    async def work(ctx: TaskContext, db: TaskSession) -> None:
        await app.effect(db, f"attempt {ctx.attempt}")

    async with app.session() as db:
        enqueue(db, work)
    dead = app.broker()
    await dead.queue.claim(["x", *dead.get_all_tasks()], limit=5)
    await expire(app)
    async with app.working():
        (row,) = await app.settled()

    assert (row.state, row.attempts) == ("done", 2)
    assert await app.effects() == ["attempt 2"]


async def test_task_that_kills_its_process_ends_dead(make_app):
    app = await make_app(lease=60, max_attempts=2)

    @app.router.task
    async def work() -> None:
        raise AssertionError

    async with app.session() as db:
        enqueue(db, work)
    broker = app.broker()
    for _ in range(2):
        assert len(await broker.queue.claim(broker.get_all_tasks())) == 1
        await expire(app)
        await broker.maintenance.process_overdue()
    (row,) = await app.rows()

    assert (row.state, row.attempts) == ("dead", 2)
    assert row.last_error == "Lease expired: the worker died or stopped responding."


async def test_two_workers_run_each_task_once(make_app):
    app, other = await make_app(lease=60), await make_app(lease=60)
    ran = []

    @app.router.task
    async def work(number: int, db: TaskSession) -> None:
        ran.append(number)
        await app.effect(db, str(number))

    other.router = app.router
    async with app.session() as db:
        for number in range(60):
            enqueue(db, work, number)
    async with app.working(), other.working():
        rows = await app.settled()

    assert sorted(ran) == list(range(60))
    assert sorted(map(int, await app.effects())) == list(range(60))
    assert {row.attempts for row in rows} == {1}


async def test_stop_waits_for_running_tasks_and_claims_no_more(make_app):
    app = await make_app(concurrency=1)
    started, finished = asyncio.Event(), []

    @app.router.task
    async def work(number: int) -> None:
        started.set()
        await asyncio.sleep(0.3)
        finished.append(number)

    async with app.session() as db:
        enqueue(db, work, 1)
        enqueue(db, work, 2)
    async with app.working():
        await asyncio.wait_for(started.wait(), 30)

    assert finished == [1]
    assert [(row.state, row.attempts) for row in await app.rows()] == [("done", 1), ("pending", 0)]


async def test_stop_releases_tasks_that_do_not_end(make_app):
    app = await make_app(concurrency=1)  # On SQLite, another claim would wait for the task's writer.
    started, cleaned = asyncio.Event(), []

    @app.router.task
    async def work(db: TaskSession) -> None:
        await app.effect(db, "half done")
        started.set()
        try:
            await asyncio.sleep(300)
        finally:
            cleaned.append(True)

    async with app.session() as db:
        enqueue(db, work)
    worker = Worker(app.broker(), work=True)
    async with worker:
        await asyncio.wait_for(started.wait(), 30)
        await worker.stop(grace=0.1)

    (row,) = await app.rows()
    assert (row.state, row.attempts, row.last_error) == ("pending", 0, None)
    assert cleaned == [True]
    assert await app.effects() == []


async def test_progress_is_refused_while_the_task_session_has_the_writer(make_app, database_url):
    app = await make_app(max_attempts=1)

    @app.router.task
    async def work(ctx: TaskContext, db: TaskSession) -> None:
        await app.effect(db, "first")
        await ctx.progress(50)

    async with app.session() as db:
        enqueue(db, work)
    async with app.working():
        (row,) = await app.settled()

    if database_url.startswith("sqlite"):
        assert row.state == "dead"
        assert "holds SQLite's writer already" in row.last_error
    else:
        assert (row.state, row.progress) == ("done", {"percent": 50, "step": ""})


async def test_attempt_of_an_earlier_start_can_not_finish_its_row(app):
    """The attempts may have the same key, because a released claim is not counted. The lease owner differs."""

    @app.router.task
    async def work() -> None: ...

    async with app.session() as db:
        enqueue(db, work)
    broker = app.broker()
    await broker.startup()
    (old,) = await broker.in_flight.claim_next()
    await broker.shutdown()
    await broker.startup()
    (new,) = await broker.in_flight.claim_next()

    assert old.task.key == new.task.key
    assert not await old.queue.finish(old.task)
    assert await new.queue.finish(new.task)
    await broker.shutdown()
