"""The fixture `tasks`: asserts which tasks were committed, and runs them in the test."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from inspect import signature
from typing import Any, Literal, NamedTuple

from pydantic_core import to_jsonable_python
from sqlalchemy import select

from appkit.kit import AppKit
from appkit.repository.outbox import OutboxTask, TaskState
from appkit.tasks.context import Attempt
from appkit.tasks.outbox_broker import OutboxBroker
from appkit.tasks.receiver import Receiver
from appkit.tasks.router import Task, enqueue


class Drained(NamedTuple):
    """Number of tasks that `drain` ran, by state."""

    done: int = 0
    scheduled: int = 0
    """Failed tasks that wait for their retry."""
    dead: int = 0
    cancelled: int = 0


class Tasks:
    """The committed tasks of one kit.

    Args:
        kit: A started kit without a worker.
        before: Awaited before the rows are read, to commit the test's own work.
    """

    def __init__(self, kit: AppKit, before: Callable[[], Awaitable[None]]) -> None:
        assert isinstance(kit.broker, OutboxBroker)
        self._broker = kit.broker
        self._database = kit.database
        self._before = before
        self._mode: Literal["manual", "inline"] = "manual"
        self._running = False

    @property
    def mode(self) -> Literal["manual", "inline"]:
        """`manual`: tasks wait for `run()`. `inline`: they run when they are committed, before the commit returns."""
        return self._mode

    @mode.setter
    def mode(self, mode: Literal["manual", "inline"]) -> None:
        self._mode = mode
        assert self._database.context is not None
        self._database.context.wake = self._run_inline if mode == "inline" else self._broker.wake

    async def sent(self, task: Task[..., Any] | str, **arguments: Any) -> list[OutboxTask]:
        """The committed tasks of this name that have these arguments, whether or not they have run.

        Args:
            task: The task, its name, or the name of its function.
            arguments: The arguments by parameter name; for a subscriber, the event's fields.
        """
        await self._before()
        expected = to_jsonable_python(arguments)
        rows = await self._all()
        return [row for row in rows if self._is(row, task) and expected.items() <= self._arguments(row).items()]

    async def assert_sent(self, task: Task[..., Any] | str, /, **arguments: Any) -> OutboxTask:
        """Assert that exactly one such task was committed, and return it.

        Args:
            task: As for `sent`.
            arguments: As for `sent`.
        """
        found = await self.sent(task, **arguments)
        others = [f"{row.task_name}({self._arguments(row)})" for row in await self._all()]
        assert len(found) == 1, f"{len(found)} such tasks were committed. All tasks: {', '.join(others) or 'none'}."
        return found[0]

    async def assert_not_sent(self, task: Task[..., Any] | str, /, **arguments: Any) -> None:
        """Assert that no such task was committed.

        Args:
            task: As for `sent`.
            arguments: As for `sent`.
        """
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
        """Run all committed tasks, and the tasks that they commit, even if some fail.

        Args:
            advance: Seconds to move the clock forward first. Delayed tasks and retries that are due then run too.
        """
        await self._before()
        await self._advance(advance if isinstance(advance, timedelta) else timedelta(seconds=advance))
        states = Counter(row.state for row in await self.run(check=False))
        return Drained(**{state: states[state] for state in Drained._fields})

    async def run(self, *, check: bool = True) -> list[OutboxTask]:
        """Run all committed tasks one by one, and the tasks that they commit, until none is left.

        Retries and delayed tasks wait for a later call.

        Args:
            check: Assert that no task fails.

        Returns:
            The rows of these tasks, read after the tasks have run.
        """
        await self._before()
        await self._broker.maintenance.process_overdue()
        ran: list[str] = []
        while attempts := await self._broker.in_flight.claim_next():
            for attempt in attempts:
                ran.append(attempt.task.task_id)
                await self._work(attempt)
        rows = await self._rows(ran)
        failures = [f"{row.task_name}: {row.last_error}" for row in rows if row.state != TaskState.DONE]
        assert not (check and failures), "A task failed. " + "; ".join(failures)
        return rows

    async def _work(self, attempt: Attempt) -> None:
        receiver = Receiver(self._broker, max_async_tasks=1, run_startup=False)
        message = await self._broker.message(attempt)
        if message is not None:
            await asyncio.create_task(receiver.callback(message))  # In an asyncio task of its own, as in a worker.
        await self._broker.in_flight.flush()

    async def _run_inline(self) -> None:
        if not self._running:
            self._running = True
            try:
                await self.run(check=False)
            finally:
                self._running = False

    async def _advance(self, time: timedelta) -> None:
        async with self._database.session() as db:
            for row in await db.scalars(select(OutboxTask).where(OutboxTask.state == TaskState.SCHEDULED)):
                row.run_at = row.run_at and row.run_at - time

    async def _all(self) -> Sequence[OutboxTask]:
        async with self._database.read_session(primary=True) as db:
            return (await db.scalars(select(OutboxTask).order_by(OutboxTask.id))).all()

    async def _rows(self, task_ids: list[str]) -> list[OutboxTask]:
        async with self._database.read_session(primary=True) as db:
            found = await db.scalars(select(OutboxTask).where(OutboxTask.task_id.in_(task_ids)))
            rows = {row.task_id: row for row in found}
        return [rows[task_id] for task_id in dict.fromkeys(task_ids)]

    def _is(self, row: OutboxTask, task: Task[..., Any] | str) -> bool:
        name = task if isinstance(task, str) else task.name
        return name in {row.task_name, row.task_name.rpartition(":")[2]}

    def _arguments(self, row: OutboxTask) -> Mapping[str, Any]:
        """All arguments by name, and the fields of an event."""
        known = self._broker.find_task(row.task_name)
        names = list(signature(known.original_func).parameters) if known else []
        arguments: dict[str, Any] = dict(zip(names, row.payload["args"], strict=False)) | row.payload["kwargs"]
        events = [value for value in row.payload["args"] if isinstance(value, dict)]
        return {name: value for fields in (*events, arguments) for name, value in fields.items()}
