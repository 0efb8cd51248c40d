"""The options of tasks: queues, priorities, times and keys."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

import asyncio
from datetime import timedelta

import pytest

from appkit.domain.events import Event
from appkit.exceptions import AppKitError
from appkit.repository.base import utcnow
from appkit.service.base import BaseService
from appkit.tasks.router import enqueue, enqueue_many

CONCURRENT = 30


class Shaken(Event):
    what: str


async def test_larger_priority_goes_first(make_app):
    app = await make_app(concurrency=1)
    ran = []

    @app.router.task(priority=5)
    async def work(number: int) -> None:
        ran.append(number)

    async with app.session() as db:
        enqueue(db, work.with_options(priority=-100), 3)
        enqueue(db, work, 2)
        enqueue(db, work.with_options(priority=100), 1)
    async with app.working():
        rows = await app.settled()

    assert ran == [1, 2, 3]
    assert [row.priority for row in rows] == [-100, 5, 100]


async def test_worker_runs_its_queues_only(make_app):
    app, other = await make_app(queues=["mail", "default"]), await make_app(queues=["slow"])
    other.router = app.router
    ran = []

    @app.router.task(queue="mail")
    async def work(number: int) -> None:
        ran.append(number)

    async with app.session() as db:
        enqueue(db, work.with_options(queue="slow"), 1)
        enqueue(db, work, 2)
    async with app.working():
        await app.until(lambda rows: rows[1].state == "done")
        assert ran == [2]
    async with other.working():
        await other.settled()

    assert ran == [2, 1]


async def test_task_for_later_waits_for_its_time(app):
    @app.router.task
    async def work() -> None: ...

    async with app.session() as db:
        enqueue(db, work.with_options(delay=0.4))
        enqueue(db, work.with_options(delay=timedelta(days=1)))
        enqueue(db, work.with_options(run_at=utcnow() + timedelta(hours=1)))
        enqueue(db, work.with_options(run_at=utcnow() - timedelta(hours=1)))
    before = await app.rows()
    async with app.working():
        rows = await app.until(lambda rows: rows[0].state == "done")

    assert [row.state for row in before] == ["scheduled", "scheduled", "scheduled", "pending"]
    assert [row.state for row in rows] == ["done", "scheduled", "scheduled", "done"]
    assert rows[0].started_at >= rows[0].run_at
    assert timedelta(hours=23) < rows[1].run_at - utcnow() < timedelta(hours=25)


async def test_task_expires_before_a_worker_picks_it_up(app):
    @app.router.task
    async def work() -> None:
        raise AssertionError

    async with app.session() as db:
        enqueue(db, work.with_options(expires_at=utcnow() - timedelta(seconds=1)))
        enqueue(db, work.with_options(expires_at=utcnow() - timedelta(seconds=1), delay=1000))
    async with app.working():
        rows = await app.settled()

    assert {(row.state, row.error_code, row.attempts) for row in rows} == {("dead", "TASK_EXPIRED", 0)}


async def test_unique_key_lets_one_in_until_it_is_done(app):
    @app.router.task(unique_key=lambda number: number % 2)
    async def work(number: int) -> None: ...

    async with app.session() as db:
        first, second, third = (enqueue(db, work, number) for number in range(3))
        before = [handle.created for handle in (first, second, third)]
        await db.flush()
        after = [handle.created for handle in (first, second, third)]
        assert third.task_id == first.task_id
    assert (before, after) == ([None] * 3, [True, True, False])
    assert len(await app.rows()) == 2
    async with app.working():
        await app.settled()
    async with app.session() as db:
        again = enqueue(db, work, 0)

    assert again.created
    assert again.task_id != first.task_id
    assert len(await app.rows()) == 3


@pytest.mark.parametrize(("scope", "created"), [("until_start", True), ("until_done", False), ("retained", False)])
async def test_unique_key_is_taken_for_its_scope(app, scope, created):
    started, release = asyncio.Event(), asyncio.Event()

    @app.router.task(unique_key="only one", unique_scope=scope)
    async def work() -> None:
        started.set()
        await release.wait()

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        await asyncio.wait_for(started.wait(), 30)
        async with app.session() as db:
            during = enqueue(db, work)
        release.set()
        await app.settled()
        async with app.session() as db:
            after = enqueue(db, work)

    assert during.created is created
    assert after.created is (scope != "retained")


async def test_unique_task_of_a_rolled_back_savepoint_was_never_there(app):
    @app.router.task(unique_key="key")
    async def work() -> None: ...

    async with app.session() as db:
        savepoint = await db.begin_nested()
        enqueue(db, work)
        await savepoint.rollback()
        kept = enqueue(db, work)

    assert kept.created
    assert [row.task_id for row in await app.rows()] == [kept.task_id]


async def test_subscriber_may_be_unique_too(app):
    @app.router.on(Shaken, unique_key=lambda event: event.what)
    async def work(event: Shaken) -> None: ...

    async with app.session() as db:
        for what in ("tree", "tree", "hand"):
            BaseService(db).emit(Shaken(what=what))

    assert [row.unique_key.rpartition(":")[2] for row in await app.rows()] == ["tree", "hand"]


async def test_concurrent_rivals_leave_one_row_even_if_the_first_rolls_back(app):
    """If the transaction with the key is rolled back, the waiting transaction writes its row."""

    @app.router.task(unique_key="contested")
    async def work(number: int) -> None: ...

    async def rival(number: int) -> None:
        async with app.session() as db:
            enqueue(db, work, number)
            await db.flush()
            await asyncio.sleep(0.005)
            if number % 2 == 0:
                await db.rollback()

    await asyncio.gather(*(rival(number) for number in range(CONCURRENT)))

    (row,) = await app.rows()
    assert row.payload["args"][0] % 2 == 1


async def test_ordered_tasks_run_one_after_the_other(app):
    running: set[str] = set()
    overlaps: list[str] = []
    ran: dict[str, list[int]] = {"a": [], "b": []}

    @app.router.task(ordering_key=lambda key, _: key)
    async def work(key: str, number: int) -> None:
        overlaps.extend([key] if key in running else [])
        running.add(key)
        await asyncio.sleep(0.005)
        running.discard(key)
        ran[key].append(number)

    async with app.session() as db:
        await enqueue_many(db, work, [(key, number) for number in range(10) for key in "ab"])
    async with app.working():
        await app.settled()

    assert overlaps == []
    assert ran == {"a": [*range(10)], "b": [*range(10)]}


async def test_ordered_task_that_appears_late_waits_for_the_one_that_runs(app, database_url):
    """A row gets its id before the commit. So an older task may become visible after a younger task has started."""
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer, and so no transactions that overtake each other.")
    started, release = asyncio.Event(), asyncio.Event()

    @app.router.task(ordering_key="key")
    async def work(number: int) -> None:
        started.set()
        await release.wait()

    async with app.working():
        async with app.session() as older:
            enqueue(older, work, 1)
            await older.flush()
            async with app.session() as younger:
                enqueue(younger, work, 2)
            await asyncio.wait_for(started.wait(), 30)
        await asyncio.sleep(0.4)
        states = [row.state for row in await app.rows()]
        release.set()
        await app.settled()

    assert states == ["pending", "running"]


async def test_concurrent_claims_take_one_task_of_an_ordering_key(app, database_url):
    """Each transaction sees the task of the other transaction as pending. The first lock on the key decides."""
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer.")

    @app.router.task(ordering_key="key")
    async def work(number: int) -> None: ...

    first, second = app.broker().queue, app.broker().queue
    async with app.session() as older:
        enqueue(older, work, 1)
        await older.flush()
        async with app.session() as younger:
            enqueue(younger, work, 2)
        async with app.session() as db:
            claimed = await first._claim(db, [work.name], 10)
            await older.commit()
            assert await second.claim([work.name], limit=10) == []

    assert [task.payload["args"] for task in claimed] == [[2]]
    assert [(row.state, row.attempts) for row in await app.rows()] == [("pending", 0), ("running", 1)]


async def test_many_are_written_in_one_statement(app):
    from sqlalchemy import event

    @app.router.task(unique_key=lambda number: number % 50)
    async def work(number: int) -> None: ...

    statements = []
    event.listen(
        app.database.engine.sync_engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )
    async with app.session() as db:
        handles = await enqueue_many(db, work.with_options(delay=60), [{"number": number} for number in range(100)])

    assert [handle.created for handle in handles] == [True] * 50 + [False] * 50
    assert [handle.task_id for handle in handles[50:]] == [handle.task_id for handle in handles[:50]]
    assert sum("INSERT" in statement for statement in statements) == 1
    assert {row.state for row in await app.rows()} == {"scheduled"}
    async with app.session() as db:
        assert await enqueue_many(db, work, []) == []
        with pytest.raises(AppKitError, match="can't be called like this"):
            await enqueue_many(db, work, [(1,), (1, 2)])


async def test_options_that_contradict_are_refused(app):
    @app.router.task
    async def work() -> None: ...

    with pytest.raises(AppKitError, match="both a delay and a run_at"):
        work.with_options(delay=3, run_at=utcnow())
    with pytest.raises(AppKitError, match="under another name"):
        work.with_options(name="other")
    async with app.session() as db:
        with pytest.raises(AppKitError, match="unique_key of task .* is longer than 255 characters"):
            enqueue(db, work.with_options(unique_key="x" * 256))
    assert work.policy.delay is None


async def test_wake_follows_the_outermost_commit_only(app):
    """The end of a savepoint, a rollback and a closed database session wake no worker."""
    woken = []
    app.context.wake = lambda: woken.append(1)

    @app.router.task
    async def work() -> None: ...

    async with app.session() as db:
        async with db.begin_nested():
            enqueue(db, work)
        assert woken == []
    assert woken
    woken.clear()
    async with app.session() as db:
        enqueue(db, work)
        await db.rollback()
    async with app.session() as db:
        savepoint = await db.begin_nested()
        enqueue(db, work)
        await savepoint.rollback()
    async with app.session() as db:
        enqueue(db, work)
        await db.close()

    assert woken == []
    assert len(await app.rows()) == 1
