"""Tasks in a test: which were committed, and running them now."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from inspect import signature
from typing import Any

from pydantic_core import to_jsonable_python
from sqlalchemy import exists, select

from appkit.kit import AppKit
from appkit.repository.outbox import OutboxTask, TaskState
from appkit.tasks.broker import OutboxBroker
from appkit.tasks.receiver import Receiver
from appkit.tasks.router import Task


class Tasks:
    """The committed tasks of one kit.

    Args:
        kit: The kit, started, whose process runs no tasks by itself.
        before: Awaited before each look, so that the test's own work is committed.
    """

    def __init__(self, kit: AppKit, before: Callable[[], Awaitable[None]]) -> None:
        assert isinstance(kit.broker, OutboxBroker)
        self._broker = kit.broker
        self._database = kit.database
        self._before = before

    async def sent(self, task: Task[..., Any] | str, **arguments: Any) -> list[OutboxTask]:
        """The committed tasks of this name, whether they have run or not, with these arguments among theirs.

        Args:
            task: The task, its name, or the name of its function.
            arguments: By the parameters' names, or, for a subscriber, the event's fields.
        """
        await self._before()
        expected = to_jsonable_python(arguments)
        async with self._database.read_session(primary=True) as db:
            rows = await db.scalars(select(OutboxTask).order_by(OutboxTask.id))
            return [row for row in rows if self._is(row, task) and expected.items() <= self._arguments(row).items()]

    async def run(self, *, check: bool = True) -> list[OutboxTask]:
        """Run what was committed, one after the other, and what that commits, until there is nothing left.

        Retries and other tasks for later are left to a later call.

        Args:
            check: Fail when a task does.

        Returns:
            The tasks that ran, as they are now.
        """
        await self._before()
        ran: list[str] = []
        receiver = Receiver(self._broker, max_async_tasks=1, run_startup=False)
        async with aclosing(self._broker.listen()) as messages:
            while await self._is_something_pending():
                message = await anext(messages)
                assert isinstance(message, bytes)
                ran.append(self._broker.formatter.loads(message).task_id)
                await asyncio.create_task(receiver.callback(message))  # In a task of its own, as a worker does.
                await self._broker.leases.flush()
        rows = await self._rows(ran)
        failures = [f"{row.task_name}: {row.last_error}" for row in rows if row.state != TaskState.DONE]
        assert not (check and failures), "A task failed. " + "; ".join(failures)
        return rows

    async def _is_something_pending(self) -> bool:
        known = OutboxTask.task_name.in_(self._broker.get_all_tasks())
        async with self._database.read_session(primary=True) as db:
            return bool(await db.scalar(select(exists().where(OutboxTask.state == TaskState.PENDING, known))))

    async def _rows(self, task_ids: list[str]) -> list[OutboxTask]:
        async with self._database.read_session(primary=True) as db:
            found = await db.scalars(select(OutboxTask).where(OutboxTask.task_id.in_(task_ids)))
            rows = {row.task_id: row for row in found}
        return [rows[task_id] for task_id in dict.fromkeys(task_ids)]

    def _is(self, row: OutboxTask, task: Task[..., Any] | str) -> bool:
        name = task if isinstance(task, str) else task.name
        return name in {row.task_name, row.task_name.rpartition(":")[2]}

    def _arguments(self, row: OutboxTask) -> Mapping[str, Any]:
        """All by their names, and the fields of an event."""
        known = self._broker.find_task(row.task_name)
        names = list(signature(known.original_func).parameters) if known else []
        arguments: dict[str, Any] = dict(zip(names, row.payload["args"], strict=False)) | row.payload["kwargs"]
        events = [value for value in row.payload["args"] if isinstance(value, dict)]
        return {name: value for fields in (*events, arguments) for name, value in fields.items()}
