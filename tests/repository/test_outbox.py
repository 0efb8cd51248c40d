"""Tasks in the outbox: enqueue, claim, renew, finish and rescue."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, select, text, update

from appkit.core.context import request_id
from appkit.core.settings import TasksSettings
from appkit.domain.events import Event
from appkit.exceptions import AppKitError, ConstraintViolatedException, ServiceUnavailableException
from appkit.repository.base import Base, utcnow
from appkit.repository.database import Database
from appkit.repository.enqueueing import add_task
from appkit.repository.outbox import OutboxTask, TaskPolicy, clock
from appkit.repository.queue import TaskQueue
from appkit.repository.queue_statements import Finished
from appkit.tasks.maintenance import Maintenance

POLICY = TaskPolicy(name="jobs:work")
NAMES = [POLICY.name]


class Happened(Event):
    thing: str


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all, [Base.metadata.tables["appkit_outbox"]])
    yield database
    await database.dispose()


@pytest.fixture
def queue(database: Database) -> TaskQueue:
    return TaskQueue(database, TasksSettings(lease=60, max_attempts=2))


@pytest.fixture
def maintenance(database: Database) -> Maintenance:
    return Maintenance(database, TasksSettings(lease=60, max_attempts=2))


@pytest.fixture
def hasty(database: Database) -> TaskQueue:
    """A queue of another process. Its leases expire after a millisecond."""
    return TaskQueue(database, TasksSettings(lease=0.001, max_attempts=2))


async def add(database: Database, count: int = 1, policy: TaskPolicy = POLICY) -> None:
    async with database.session() as session:
        for number in range(count):
            add_task(session, policy, [number])


async def rows(database: Database) -> list[OutboxTask]:
    async with database.read_session() as session:
        return list(await session.scalars(select(OutboxTask).order_by(OutboxTask.id)))


async def test_row_has_arguments_labels_and_options_of_the_task(database: Database) -> None:
    thing = uuid4()
    token = request_id.set("request-1")
    async with database.session() as session:
        row = add_task(session, TaskPolicy(name="a:b", max_attempts=7), [Happened(thing="x")], {"id": thing})
        handle = row.task_id
    request_id.reset(token)

    (row,) = await rows(database)
    assert (row.task_id, row.task_name, row.state, row.attempts, row.max_attempts) == (handle, "a:b", "pending", 0, 7)
    assert row.payload["args"] == [{"thing": "x"}]
    assert row.payload["kwargs"] == {"id": str(thing)}
    assert row.payload["labels"]["request_id"] == "request-1"
    assert datetime.now(UTC) - row.created_at < timedelta(minutes=1)


async def test_rolled_back_savepoint_drops_its_tasks(database: Database) -> None:
    async with database.session() as session:
        add_task(session, POLICY, ["kept"])
        await session.flush()
        savepoint = await session.begin_nested()
        add_task(session, POLICY, ["dropped"])
        await session.flush()
        await savepoint.rollback()

    assert [row.payload["args"] for row in await rows(database)] == [["kept"]]


async def test_argument_that_is_no_json_is_refused_before_anything_is_written(database: Database) -> None:
    async with database.session() as session:
        with pytest.raises(AppKitError, match="An argument of task 'jobs:work' can't be written as JSON"):
            add_task(session, POLICY, [object()])

    assert await rows(database) == []


async def test_oldest_tasks_are_claimed_first_and_only_once(
    database: Database, queue: TaskQueue, hasty: TaskQueue
) -> None:
    await add(database, 5)

    first, second = await queue.claim(NAMES, limit=2), await hasty.claim(NAMES, limit=10)

    assert [task.payload["args"] for task in first] == [[0], [1]]
    assert [task.payload["args"] for task in second] == [[2], [3], [4]]
    assert await queue.claim(NAMES, limit=10) == []
    assert {(row.state, row.attempts) for row in await rows(database)} == {("running", 1)}


async def test_unknown_names_are_left_alone_and_counted(
    database: Database, queue: TaskQueue, maintenance: Maintenance
) -> None:
    await add(database, 2)

    assert await queue.claim(["jobs:other"], limit=10) == []
    assert await queue.claim([], limit=10) == []
    assert await maintenance.count_unknown(["jobs:other"]) == {"jobs:work": 2}
    assert await maintenance.count_unknown(NAMES) == {}


async def test_failed_task_waits_for_its_retry_time(
    database: Database, queue: TaskQueue, maintenance: Maintenance
) -> None:
    await add(database, 2)
    soon, late = await queue.claim(NAMES, limit=2)

    assert await queue.fail(soon, "too bad", retry_in=0)
    assert await queue.fail(late, "too bad", retry_in=3600)
    await maintenance.process_overdue()

    assert [(row.state, row.last_error) for row in await rows(database)] == [
        ("pending", "too bad"),
        ("scheduled", "too bad"),
    ]
    late_row = (await rows(database))[1]
    assert late_row.run_at is not None
    assert timedelta(minutes=59) < late_row.run_at - datetime.now(UTC) < timedelta(minutes=61)


async def test_expired_lease_is_rescued_until_attempts_are_spent(
    database: Database, hasty: TaskQueue, maintenance: Maintenance
) -> None:
    await add(database)
    states = []
    for _ in range(2):
        await hasty.claim(NAMES)
        await hasty.claim(NAMES)  # Some time passes.
        states += [state for _, _, state in await maintenance.process_overdue()]

    (row,) = await rows(database)
    assert states == ["pending", "dead"]
    assert (row.state, row.attempts, row.lease_owner) == ("dead", 2, None)
    assert row.finished_at is not None


async def test_tasks_of_this_process_are_not_rescued(
    database: Database, hasty: TaskQueue, maintenance: Maintenance
) -> None:
    await add(database)
    (task,) = await hasty.claim(NAMES)

    assert await maintenance.process_overdue([task]) == []
    assert len(await maintenance.process_overdue()) == 1


async def test_only_the_latest_claim_may_change_the_row(
    database: Database, queue: TaskQueue, hasty: TaskQueue, maintenance: Maintenance
) -> None:
    await add(database)
    (stale,) = await hasty.claim(NAMES)
    await maintenance.process_overdue()
    (task,) = await queue.claim(NAMES)

    assert not await hasty.finish(stale)
    assert not await hasty.fail(stale, "late", retry_in=None)
    assert not await hasty.report_progress(stale, {"percent": 1})
    assert await hasty.renew([stale]) == {}
    assert not await queue.finish(stale)  # The new owner can't finish the earlier attempt.
    assert await queue.renew([task]) == {task.key: False}
    assert await queue.finish(task)
    assert not await queue.finish(task)


async def test_finish_uses_the_given_transaction(database: Database, queue: TaskQueue) -> None:
    await add(database)
    (task,) = await queue.claim(NAMES)
    async with database.session() as session:
        assert await queue.finish(task, session)
        await session.rollback()

    assert [row.state for row in await rows(database)] == ["running"]


async def test_released_tasks_are_as_if_never_claimed(database: Database, queue: TaskQueue, hasty: TaskQueue) -> None:
    await add(database, 3)
    await queue.claim(NAMES, limit=2)
    await hasty.claim(NAMES)

    await queue.release()

    assert [(row.state, row.attempts) for row in await rows(database)] == [("pending", 0)] * 2 + [("running", 1)]


async def test_task_is_published_once_and_again_after_a_failure(database: Database, queue: TaskQueue) -> None:
    await add(database, 3)
    (first, _) = await queue.publish(NAMES, 2)
    assert len(await queue.publish(NAMES, 2)) == 1
    assert await queue.publish(NAMES, 2) == []

    await queue.unpublish([first.task_id])
    assert [row.state for row in await rows(database)] == ["pending", "published", "published"]
    assert await queue.publish(NAMES, 2) == [first]


async def test_published_tasks_are_claimed_in_turn_with_the_others(database: Database, queue: TaskQueue) -> None:
    await add(database, 3)
    await queue.publish(NAMES, 2)

    assert [task.payload["args"] for task in await queue.claim(NAMES, limit=10)] == [[0], [1], [2]]
    assert {row.state for row in await rows(database)} == {"running"}


async def test_unknown_state_is_refused(database: Database) -> None:
    await add(database)
    with pytest.raises(ConstraintViolatedException):
        async with database.session() as session:
            await session.execute(update(OutboxTask).values(state="lingering"))


async def test_poll_reports_due_tasks_and_the_next_deadline(
    database: Database, queue: TaskQueue, hasty: TaskQueue, maintenance: Maintenance
) -> None:
    assert await maintenance.poll(NAMES) == (False, False, None)
    await add(database)
    assert (await maintenance.poll(NAMES))[:2] == (True, False)
    assert (await maintenance.poll(["jobs:other"]))[:2] == (False, False)
    (task,) = await queue.claim(NAMES)
    lease = await maintenance.poll(NAMES)
    assert lease[:2] == (False, False)
    assert lease.wait is not None
    assert 0 < lease.wait <= 60
    await queue.fail(task, "too bad", retry_in=3600)
    retry = await maintenance.poll(NAMES)
    assert retry.wait is not None
    assert 3500 < retry.wait <= 3600
    await add(database)
    await hasty.claim(NAMES)
    assert (await maintenance.poll(NAMES))[:2] == (False, True)


async def test_exchange_finishes_tasks_and_claims_the_next(
    database: Database, queue: TaskQueue, hasty: TaskQueue
) -> None:
    await add(database, 4)
    first, second = await queue.claim(NAMES, limit=2)
    (foreign,) = await hasty.claim(NAMES)
    asked: list[str] = []
    event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *about: asked.append(about[2]))
    done = [Finished(first, {"pages": 3}), Finished(second), Finished(foreign)]
    finished, claimed = await queue.exchange(done, NAMES, room=lambda: 1)

    assert finished == {first.key, second.key}
    assert [row.state for row in await rows(database)] == ["done", "done", "running", "running"]
    assert [row.result for row in await rows(database)] == [{"pages": 3}, None, None, None]
    assert [task.id for task in claimed] == [foreign.id + 1]
    changes = [statement for statement in asked if "UPDATE" in statement]
    assert len(changes) == (2 if database.sqlite else 1)


async def test_exchange_claims_ordered_tasks_in_turn(database: Database, queue: TaskQueue) -> None:
    await add(database, 2)
    await add(database, 3, TaskPolicy(name=POLICY.name, ordering_key="one after the other"))
    await add(database, 20)
    turns, claimed = [], await queue.claim(NAMES, limit=2)
    while claimed:
        turns.append([task.id for task in claimed])
        _, claimed = await queue.exchange([Finished(task) for task in claimed], NAMES, room=lambda: 2)
    ids = [row.id for row in await rows(database)]

    assert sorted(each for turn in turns for each in turn) == ids
    # Each ordered task is claimed one or two turns after the previous ordered task, even if many others wait.
    first, second, third = (next(number for number, turn in enumerate(turns) if each in turn) for each in ids[2:5])
    assert first == 1
    assert 1 <= second - first <= 2
    assert 1 <= third - second <= 2


async def test_exchange_returns_its_claims_when_notify_fails(
    database: Database, queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.sqlite:
        pytest.skip("SQLite has no NOTIFY.")

    async def fail(_: Any) -> None:
        raise ServiceUnavailableException

    monkeypatch.setattr(queue, "_notify", fail)
    await add(database, 3)
    done = [Finished(task) for task in await queue.claim(NAMES)]
    finished, claimed = await queue.exchange(done, NAMES, room=lambda: 1)
    assert len(finished) == len(claimed) == 1


async def test_clock_is_the_database_s(database: Database) -> None:
    async with database.session() as session:
        now, then = (await session.execute(select(clock(0), clock(-90.5)))).one()

    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)
    assert abs(now - then - timedelta(seconds=90.5)) < timedelta(milliseconds=5)


async def test_polling_reads_no_ended_rows(database: Database, queue: TaskQueue, maintenance: Maintenance) -> None:
    """Each query that runs every second uses an index, so its time doesn't grow with the table."""
    await add(database, 300, TaskPolicy(name=POLICY.name, ordering_key=str, expires_at=utcnow() + timedelta(days=1)))
    async with database.session() as session:
        await session.execute(text("UPDATE appkit_outbox SET state = 'done', keep_until = '2999-01-01' WHERE id > 5"))
        if not database.sqlite:
            await session.execute(text("ANALYZE appkit_outbox"))
    asked: list[tuple[str, Any]] = []
    event.listen(
        database.engine.sync_engine,
        "before_cursor_execute",
        lambda _, __, statement, parameters, *___: asked.append((statement, parameters)),
    )
    await queue.claim(NAMES, limit=10)
    await maintenance.process_overdue()
    await maintenance.prune()
    await maintenance.poll(NAMES)

    plans = []
    async with database.engine.connect() as connection:
        for statement, parameters in [each for each in asked if "RETURNING" in each[0] or "UPDATE" in each[0]]:
            explain = "EXPLAIN QUERY PLAN " if database.sqlite else "EXPLAIN "
            plan = await connection.exec_driver_sql(explain + statement, parameters)
            plans.append(" ".join(str(row) for row in plan))
    indexes = ["waiting", "scheduled", "expiring", "leased", "ended"]
    assert "ix_appkit_outbox_ordered" in plans[0], plans[0]
    for found, index in zip(plans, indexes, strict=True):
        assert f"ix_appkit_outbox_{index}" in found
