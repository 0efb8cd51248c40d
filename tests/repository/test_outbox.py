"""Writing tasks, and how their rows change hands."""

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
from appkit.repository.queue import Finished, TaskQueue
from appkit.repository.upkeep import Upkeep

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
def upkeep(database: Database) -> Upkeep:
    return Upkeep(database, TasksSettings(lease=60, max_attempts=2))


@pytest.fixture
def hasty(database: Database) -> TaskQueue:
    """A queue of another process, whose leases have expired as soon as they begin."""
    return TaskQueue(database, TasksSettings(lease=0.001, max_attempts=2))


async def add(database: Database, count: int = 1, policy: TaskPolicy = POLICY) -> None:
    async with database.session() as session:
        for number in range(count):
            add_task(session, policy, [number])


async def rows(database: Database) -> list[OutboxTask]:
    async with database.read_session() as session:
        return list(await session.scalars(select(OutboxTask).order_by(OutboxTask.id)))


async def test_row_holds_what_the_task_needs(database: Database) -> None:
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


async def test_rolled_back_savepoint_takes_its_tasks_along(database: Database) -> None:
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


async def test_oldest_are_claimed_first_and_only_once(database: Database, queue: TaskQueue, hasty: TaskQueue) -> None:
    await add(database, 5)

    first, second = await queue.claim(NAMES, limit=2), await hasty.claim(NAMES, limit=10)

    assert [task.payload["args"] for task in first] == [[0], [1]]
    assert [task.payload["args"] for task in second] == [[2], [3], [4]]
    assert await queue.claim(NAMES, limit=10) == []
    assert {(row.state, row.attempts) for row in await rows(database)} == {("running", 1)}


async def test_unknown_names_are_left_alone_and_counted(database: Database, queue: TaskQueue, upkeep: Upkeep) -> None:
    await add(database, 2)

    assert await queue.claim(["jobs:other"], limit=10) == []
    assert await queue.claim([], limit=10) == []
    assert await upkeep.unknown(["jobs:other"]) == {"jobs:work": 2}
    assert await upkeep.unknown(NAMES) == {}


async def test_failed_task_waits_for_its_time(database: Database, queue: TaskQueue, upkeep: Upkeep) -> None:
    await add(database, 2)
    soon, late = await queue.claim(NAMES, limit=2)

    assert await queue.fail(soon, "too bad", retry_in=0)
    assert await queue.fail(late, "too bad", retry_in=3600)
    await upkeep.tick([])

    assert [(row.state, row.last_error) for row in await rows(database)] == [
        ("pending", "too bad"),
        ("scheduled", "too bad"),
    ]
    late_row = (await rows(database))[1]
    assert late_row.run_at is not None
    assert timedelta(minutes=59) < late_row.run_at - datetime.now(UTC) < timedelta(minutes=61)


async def test_expired_lease_is_taken_until_attempts_are_spent(
    database: Database, hasty: TaskQueue, upkeep: Upkeep
) -> None:
    await add(database)
    states = []
    for _ in range(2):
        await hasty.claim(NAMES)
        await hasty.claim(NAMES)  # Some time passes.
        states += [state for _, _, state in await upkeep.tick([])]

    (row,) = await rows(database)
    assert states == ["pending", "dead"]
    assert (row.state, row.attempts, row.lease_owner) == ("dead", 2, None)
    assert row.finished_at is not None


async def test_what_this_process_works_at_is_not_taken_from_it(
    database: Database, hasty: TaskQueue, upkeep: Upkeep
) -> None:
    await add(database)
    (task,) = await hasty.claim(NAMES)

    assert await upkeep.tick([task.id]) == []
    assert len(await upkeep.tick([])) == 1


async def test_only_the_latest_claim_may_change_the_row(
    database: Database, queue: TaskQueue, hasty: TaskQueue, upkeep: Upkeep
) -> None:
    await add(database)
    (stale,) = await hasty.claim(NAMES)
    await upkeep.tick([])
    (task,) = await queue.claim(NAMES)

    assert not await hasty.finish(stale)
    assert not await hasty.fail(stale, "late", retry_in=None)
    assert not await hasty.report(stale, {"percent": 1})
    assert await hasty.renew([stale]) == {}
    assert not await queue.finish(stale)  # Nor the same process on behalf of its earlier attempt.
    assert await queue.renew([task]) == {task.key: False}
    assert await queue.finish(task)
    assert not await queue.finish(task)


async def test_finishing_belongs_to_the_transaction_it_is_given(database: Database, queue: TaskQueue) -> None:
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


async def test_task_is_announced_once_and_again_where_that_failed(database: Database, queue: TaskQueue) -> None:
    await add(database, 3)
    (first, _) = await queue.publish(NAMES, 2)
    assert len(await queue.publish(NAMES, 2)) == 1
    assert await queue.publish(NAMES, 2) == []

    await queue.unpublish([first.task_id])
    assert [row.state for row in await rows(database)] == ["pending", "published", "published"]
    assert await queue.publish(NAMES, 2) == [first]


async def test_announced_tasks_are_claimed_in_turn_with_the_others(database: Database, queue: TaskQueue) -> None:
    await add(database, 3)
    await queue.publish(NAMES, 2)

    assert [task.payload["args"] for task in await queue.claim(NAMES, limit=10)] == [[0], [1], [2]]
    assert {row.state for row in await rows(database)} == {"running"}


async def test_no_row_is_in_a_state_that_there_is_not(database: Database) -> None:
    await add(database)
    with pytest.raises(ConstraintViolatedException):
        async with database.session() as session:
            await session.execute(update(OutboxTask).values(state="lingering"))


async def test_look_says_what_there_is_to_do_and_when(
    database: Database, queue: TaskQueue, hasty: TaskQueue, upkeep: Upkeep
) -> None:
    assert await upkeep.look(NAMES) == (False, False, None)
    await add(database)
    assert (await upkeep.look(NAMES))[:2] == (True, False)
    assert (await upkeep.look(["jobs:other"]))[:2] == (False, False)
    (task,) = await queue.claim(NAMES)
    lease = await upkeep.look(NAMES)
    assert lease[:2] == (False, False)
    assert lease.wait is not None
    assert 0 < lease.wait <= 60
    await queue.fail(task, "too bad", retry_in=3600)
    retry = await upkeep.look(NAMES)
    assert retry.wait is not None
    assert 3500 < retry.wait <= 3600
    await add(database)
    await hasty.claim(NAMES)
    assert (await upkeep.look(NAMES))[:2] == (False, True)


async def test_exchange_closes_what_is_done_and_claims_the_next(
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


async def test_exchange_comes_to_ordered_tasks_in_their_turn(database: Database, queue: TaskQueue) -> None:
    await add(database, 2)
    await add(database, 3, TaskPolicy(name=POLICY.name, ordering_key="one after the other"))
    await add(database, 20)
    turns, claimed = [], await queue.claim(NAMES, limit=2)
    while claimed:
        turns.append([task.id for task in claimed])
        _, claimed = await queue.exchange([Finished(task) for task in claimed], NAMES, room=lambda: 2)
    ids = [row.id for row in await rows(database)]

    assert sorted(each for turn in turns for each in turn) == ids
    # Each begins in the turn after the one before it, or in the turn after that, however many others wait.
    first, second, third = (next(number for number, turn in enumerate(turns) if each in turn) for each in ids[2:5])
    assert first == 1
    assert 1 <= second - first <= 2
    assert 1 <= third - second <= 2


async def test_exchange_returns_what_it_claimed_when_others_can_not_be_told(
    database: Database, queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.sqlite:
        pytest.skip("On SQLite nobody is told.")

    async def fail(_: Any) -> None:
        raise ServiceUnavailableException

    monkeypatch.setattr(queue, "_call", fail)
    await add(database, 3)
    done = [Finished(task) for task in await queue.claim(NAMES)]
    finished, claimed = await queue.exchange(done, NAMES, room=lambda: 1)
    assert len(finished) == len(claimed) == 1


async def test_clock_is_the_database_s(database: Database) -> None:
    async with database.session() as session:
        now, then = (await session.execute(select(clock(0), clock(-90.5)))).one()

    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)
    assert abs(now - then - timedelta(seconds=90.5)) < timedelta(milliseconds=5)


async def test_looking_for_work_reads_none_of_what_is_done(
    database: Database, queue: TaskQueue, upkeep: Upkeep
) -> None:
    """However much has piled up, each question that is asked every second has an index."""
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
    await upkeep.tick([])
    await upkeep.clean()
    await upkeep.look(NAMES)

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
