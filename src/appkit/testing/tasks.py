"""The fixture `tasks`: asserts which tasks were committed, and runs them in the test."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from inspect import signature
from typing import Any, Literal, NamedTuple

from pydantic_core import to_jsonable_python
from sqlalchemy import ColumnElement, select

from appkit.kit import AppKit
from appkit.repository.outbox import OutboxTask, TaskState
from appkit.tasks.context import Attempt
from appkit.tasks.outbox_broker import OutboxBroker
from appkit.tasks.receiver import Receiver
from appkit.tasks.router import Task, enqueue


class Drained(NamedTuple):
    """How many tasks `drain` ran, by state."""

    done: int = 0
    scheduled: int = 0
    """Failed tasks that wait for their retry."""
    dead: int = 0
    cancelled: int = 0


class Tasks:
    """The committed tasks of one kit.

    Args:
        kit: A started kit without a worker.
        before: Called before rows are read, to commit the test's database sessions.
    """

    def __init__(self, kit: AppKit, before: Callable[[], Awaitable[None]]) -> None:
        assert isinstance(kit.broker, OutboxBroker)
        self._broker = kit.broker
        self._database = kit.database
        self._before = before
        self._running = False
        self.mode: Literal["manual", "inline"] = "manual"
        """With `manual`, tasks wait for `run()`. With `inline`, a commit runs its tasks before it returns."""
        assert self._database.context is not None
        self._database.context.wake = self._wake

    async def sent(self, task: Task[..., Any] | str, **arguments: Any) -> list[OutboxTask]:
        """The committed tasks with this name and these arguments. It doesn't matter whether they have run.

        Args:
            task: The task, its name, or the name of its function.
            arguments: Some of the arguments, by parameter name. For a subscriber, some of the event's fields.
        """
        await self._before()
        name = task if isinstance(task, str) else task.name
        named = [row for row in await self._rows() if name in {row.task_name, row.task_name.rpartition(":")[2]}]
        expected = to_jsonable_python(arguments)
        return [row for row in named if expected.items() <= self._arguments(row).items()]

    async def assert_sent(self, task: Task[..., Any] | str, /, **arguments: Any) -> OutboxTask:
        """Assert that `sent` finds exactly one task, and return this task."""
        found = await self.sent(task, **arguments)
        others = [f"{row.task_name}({self._arguments(row)})" for row in await self._rows()]
        assert len(found) == 1, f"{len(found)} such tasks were committed. All tasks: {', '.join(others) or 'none'}."
        return found[0]

    async def assert_not_sent(self, task: Task[..., Any] | str, /, **arguments: Any) -> None:
        """Assert that `sent` finds no task."""
        found = await self.sent(task, **arguments)
        assert not found, f"Such a task was committed: {[self._arguments(row) for row in found]}."

    async def perform(self, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run one task now, as a worker would, and return its result.

        Raises:
            Exception: The task's exception, or `InvalidArguments`.
        """
        await self._before()
        async with self._database.session() as db:
            handle = enqueue(db, task, *args, **kwargs)
        (attempt,) = await self._broker.in_flight.claim(task.name, handle.task_id)
        await self._work(attempt)
        if attempt.error is not None:
            raise attempt.error
        return attempt.result

    async def drain(self, *, advance: float | timedelta = 0) -> Drained:
        """Run all committed tasks, and the tasks that these commit. A failed task doesn't stop the others.

        `advance` moves the clock forward first, by seconds or a timedelta. Delayed tasks and retries then become due.
        """
        await self._before()
        time = advance if isinstance(advance, timedelta) else timedelta(seconds=advance)
        async with self._database.session() as db:
            for row in await db.scalars(select(OutboxTask).where(OutboxTask.state == TaskState.SCHEDULED)):
                row.run_at = row.run_at and row.run_at - time
        states = Counter(row.state for row in await self.run(check=False))
        return Drained(**{state: states[state] for state in Drained._fields})

    async def run(self, *, check: bool = True) -> list[OutboxTask]:
        """Run all committed tasks one by one, and the tasks that these commit. Return their rows after the run.

        Tasks that are not due, such as retries and delayed tasks, wait for a later call. `check` asserts that no task
        fails.
        """
        await self._before()
        await self._broker.maintenance.process_overdue()
        ran: list[str] = []
        while attempts := await self._broker.in_flight.claim_next():
            for attempt in attempts:
                ran.append(attempt.task.task_id)
                await self._work(attempt)
        found = {row.task_id: row for row in await self._rows(OutboxTask.task_id.in_(ran))}
        rows = [found[task_id] for task_id in dict.fromkeys(ran)]
        failures = [f"{row.task_name}: {row.last_error}" for row in rows if row.state != TaskState.DONE]
        assert not (check and failures), "A task failed. " + "; ".join(failures)
        return rows

    async def _work(self, attempt: Attempt) -> None:
        receiver = Receiver(self._broker, max_async_tasks=1, run_startup=False)
        message = await self._broker.message(attempt)
        if message is not None:
            await asyncio.create_task(receiver.callback(message))  # As in a worker.
        await self._broker.in_flight.flush()

    async def _wake(self) -> None:
        if self.mode == "manual":
            self._broker.wake()
        elif not self._running:
            self._running = True
            try:
                await self.run(check=False)
            finally:
                self._running = False

    async def _rows(self, *where: ColumnElement[bool]) -> Sequence[OutboxTask]:
        async with self._database.read_session(primary=True) as db:
            return (await db.scalars(select(OutboxTask).where(*where).order_by(OutboxTask.id))).all()

    def _arguments(self, row: OutboxTask) -> Mapping[str, Any]:
        """All arguments by name, and the fields of events."""
        known = self._broker.find_task(row.task_name)
        names = list(signature(known.original_func).parameters) if known else []
        arguments: dict[str, Any] = dict(zip(names, row.payload["args"], strict=False)) | row.payload["kwargs"]
        events = [value for value in row.payload["args"] if isinstance(value, dict)]
        return {name: value for fields in (*events, arguments) for name, value in fields.items()}
