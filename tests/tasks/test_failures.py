"""A failed task is retried, or is dead with an error. No task is dropped silently."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

import asyncio
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text, update
from taskiq import TaskiqDepends, TaskiqMiddleware

from appkit.domain.events import Event
from appkit.exceptions import AppKitError
from appkit.repository.enqueueing import add_task
from appkit.repository.outbox import OutboxTask
from appkit.tasks.context import TaskSession
from appkit.tasks.receiver import Receiver
from appkit.tasks.router import TaskRouter, enqueue
from appkit.tasks.worker import Worker


class Happened(Event):
    thing_id: UUID


async def test_wrong_type_is_dead_at_once_and_not_quoted(app):
    @app.router.task
    async def work(event: Happened, count: int) -> None:
        raise AssertionError

    async with app.working():
        async with app.session() as db:
            enqueue(db, work, {"thing_id": "hunter2"}, count=[3])
        (row,) = await app.settled()

    assert (row.state, row.attempts, row.error_code) == ("dead", 1, "TASK_ARGUMENTS_INVALID")
    assert "event.thing_id: Input should be a valid UUID" in row.last_error
    assert "hunter2" not in row.last_error


async def test_second_wrong_argument_is_named_too(app):
    @app.router.task
    async def work(count: int) -> None:
        raise AssertionError

    async with app.working():
        async with app.session() as db:
            enqueue(db, work, "many")
            add_task(db, work.policy, (1, 2, 3))
        rows = await app.settled()

    assert "count: Input should be a valid integer" in rows[0].last_error
    assert rows[1].last_error == "The arguments don't fit the task: too many positional arguments."


async def test_unreadable_row_is_dead(app):
    @app.router.task
    async def work() -> None:
        raise AssertionError

    async with app.session() as db:
        enqueue(db, work)
        await db.flush()
        await db.execute(update(OutboxTask).values(payload={"v": 99}))
    async with app.working():
        (row,) = await app.settled()

    assert (row.state, row.last_error) == ("dead", "The row can't be read: KeyError.")
    assert row.error_code == "TASK_UNREADABLE"


async def test_failing_dependency_is_tried_again(app):
    calls = []

    async def flaky() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("not yet")
        return "now"

    @app.router.task
    async def work(answer: Annotated[str, TaskiqDepends(flaky)]) -> None:
        assert answer == "now"

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        (row,) = await app.settled()

    assert (row.state, row.attempts) == ("done", 2)


async def test_failing_teardown_is_tried_again_and_then_dead(make_app):
    app = await make_app(max_attempts=2)

    async def connection():
        yield 1
        raise ValueError("could not be closed")

    @app.router.task
    async def work(number: Annotated[int, TaskiqDepends(connection)]) -> None:
        assert number == 1

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        (row,) = await app.settled()

    assert (row.state, row.attempts, row.last_error) == ("dead", 2, "ValueError: could not be closed")
    assert row.error_code == "ValueError"


async def test_commit_that_fails_undoes_the_task(app):
    """A constraint that fails at the end of the task is the task's failure. The row is not settled as done."""
    tries = []

    @app.router.task
    async def work(db: TaskSession) -> None:
        tries.append(1)
        await app.effect(db, f"try {len(tries)}")
        if len(tries) == 1:
            db.add(OutboxTask(task_id=None, task_name="invalid", payload={}))

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        (row,) = await app.settled()

    assert (row.state, row.attempts) == ("done", 2)
    assert await app.effects() == ["try 2"]


@pytest.mark.parametrize("where", ["pre_execute", "post_execute", "on_error", "post_save"])
async def test_raising_middleware_loses_nothing(make_app, where):
    app = await make_app(max_attempts=2)
    ran = []

    class Broken(TaskiqMiddleware):
        pass

    async def fail(*_: Any) -> Any:
        raise ValueError("broken middleware")

    setattr(Broken, where, fail)

    @app.router.task
    async def work() -> None:
        ran.append(1)
        if where == "on_error":
            raise RuntimeError

    broker = app.broker()
    broker.add_middlewares(Broken())
    async with app.working(broker):
        async with app.session() as db:
            enqueue(db, work)
        (row,) = await app.settled()

    if where == "post_save":  # The row was already settled.
        assert (row.state, row.attempts) == ("done", 1)
    else:
        assert (row.state, row.attempts, row.last_error) == ("dead", 2, "ValueError: broken middleware")
        assert row.error_code == "ValueError"


async def test_system_exit_in_a_task_is_its_failure(make_app):
    app = await make_app(max_attempts=1)

    @app.router.task
    async def leave() -> None:
        raise SystemExit(3)

    async with app.working():
        async with app.session() as db:
            enqueue(db, leave)
        (row,) = await app.settled()

    assert (row.state, row.last_error) == ("dead", "SystemExit: 3")


async def test_task_that_cancels_itself_has_failed(make_app):
    app = await make_app(max_attempts=1)

    @app.router.task
    async def give_up() -> None:
        raise asyncio.CancelledError

    async with app.working():
        async with app.session() as db:
            enqueue(db, give_up)
        (row,) = await app.settled()

    assert (row.state, row.last_error) == ("dead", "CancelledError")


async def test_worker_survives_a_database_that_fails(app, caplog):
    ran = asyncio.Event()

    @app.router.task
    async def work() -> None:
        ran.set()

    async with app.session() as db:
        await db.execute(text("ALTER TABLE appkit_outbox RENAME TO elsewhere"))
    broker = app.broker()
    async with Worker(broker, work=True) as worker:
        async with asyncio.timeout(60):
            while "Polling the outbox failed" not in caplog.text:  # noqa: ASYNC110 - a log has no event to wait for
                await asyncio.sleep(0.01)
        assert not worker.healthy
        async with app.session() as db:
            await db.execute(text("ALTER TABLE elsewhere RENAME TO appkit_outbox"))
        async with app.session() as db:
            enqueue(db, work)
        await asyncio.wait_for(ran.wait(), 30)
        assert worker.healthy

    assert "Polling the outbox failed" in caplog.text


async def test_worker_starts_again_when_its_receiver_dies(app, monkeypatch):
    tries = []
    listen = Receiver.listen

    async def fail_once(self, finish):
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("listening failed")
        await listen(self, finish)

    monkeypatch.setattr(Receiver, "listen", fail_once)
    ran = asyncio.Event()

    @app.router.task
    async def work() -> None:
        ran.set()

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        await asyncio.wait_for(ran.wait(), 30)

    assert len(tries) == 2


async def test_arguments_are_checked_when_enqueued(app):
    @app.router.task
    async def work(number: int, db: TaskSession) -> None: ...

    async with app.session() as db:
        with pytest.raises(AppKitError, match="missing a required argument: 'number'"):
            enqueue(db, work)
        with pytest.raises(AppKitError, match="can't be called like this"):
            enqueue(db, work, 1, db=1)
        with pytest.raises(AppKitError, match="can't be written as JSON"):
            enqueue(db, work, object())

    assert await app.rows() == []


async def test_parameter_that_json_cannot_carry_is_refused(app):
    class Connection: ...

    router = TaskRouter()

    @router.task
    async def work(connection: Connection) -> None: ...

    app.router = router
    with pytest.raises(AppKitError, match="Parameter 'connection'"):
        app.broker()


async def test_values_survive_the_journey(app):
    from datetime import UTC, datetime, timedelta
    from decimal import Decimal

    got: list[Any] = []

    @app.router.task
    async def work(
        uid: UUID, when: datetime, span: timedelta, price: Decimal, tags: set[str], event: Happened, ratio: float = 0.5
    ) -> None:
        got.extend([uid, when, span, price, tags, event, ratio])

    values = [uuid4(), datetime.now(UTC), timedelta(days=2), Decimal("9.90"), {"a", "b"}, Happened(thing_id=uuid4())]
    async with app.working():
        async with app.session() as db:
            enqueue(db, work, *values, ratio=float("inf"))
        await app.settled()

    assert got == [*values, float("inf")]
