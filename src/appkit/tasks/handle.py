"""TaskHandle: a task that was enqueued, and what has become of it."""

import asyncio
from time import monotonic
from typing import Any

from sqlalchemy import select

from appkit.core.settings import TasksSettings
from appkit.exceptions import AppKitError
from appkit.repository.database import Database
from appkit.repository.outbox import OutboxTask, TaskState
from appkit.repository.queue import TaskQueue

_ENDED = {TaskState.DONE, TaskState.DEAD, TaskState.CANCELLED}


class TaskFailedError(Exception):
    """A task whose result was waited for is dead or was cancelled; the message says why.

    Args:
        message: What went wrong.
        code: The `internal_code` of what it failed with, or a word such as `TASK_EXPIRED`.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class TaskHandle:
    """A task that has been enqueued. With an id that was kept, `TaskHandle(task_id, kit.database)` is it again.

    Args:
        task_id: The task's id.
        database: Where the outbox is.
    """

    def __init__(self, task_id: str, database: Database | None = None) -> None:
        self.database = database
        self._task_id = task_id
        self._unique: OutboxTask | None = None

    @classmethod
    def of_row(cls, row: OutboxTask, database: Database | None) -> "TaskHandle":
        """The handle of a row that is about to be written."""
        handle = cls(row.task_id, database)
        if row.unique_key is not None:
            handle._unique = row
        return handle

    def __repr__(self) -> str:
        return f"<TaskHandle {self.task_id}>"

    @property
    def task_id(self) -> str:
        """Its id; of a task with a unique key, the id of the one that has the key, once the session was flushed."""
        return self._task_id if self._unique is None else self._unique.task_id

    @property
    def created(self) -> bool | None:
        """Whether this call wrote it, or its unique key was taken; None until the session has been flushed."""
        return True if self._unique is None else self._unique.created

    async def status(self) -> TaskState | None:
        """Where it is on its way; None when there is no such task, or none any more."""
        row = await self._read()
        return None if row is None else TaskState(row.state)

    async def ended(self) -> bool:
        """Whether it is done, dead or cancelled."""
        return await self.status() in _ENDED

    async def progress(self) -> dict[str, Any] | None:
        """What it last reported; None when that was nothing."""
        row = await self._read()
        return None if row is None else row.progress

    async def result(self, timeout: float | None = None) -> Any:
        """Wait until it is done, for what it returned, as JSON has it.

        Args:
            timeout: Seconds to wait at the most.

        Raises:
            TaskFailedError: When it is dead or was cancelled.
            TimeoutError: When it has not ended in time.
            LookupError: When there is no such task, or none any more.
        """
        end, pause = monotonic() + (float("inf") if timeout is None else timeout), 0.02
        while True:
            row = await self._read()
            if row is None:
                raise LookupError(f"There is no task {self.task_id}, or none any more.")
            if row.state in _ENDED:
                return _outcome(row)
            if monotonic() + pause > end:
                raise TimeoutError(f"Task {self.task_id} is {row.state} still.")
            await asyncio.sleep(pause)
            pause = min(0.5, pause * 1.5)

    async def cancel(self) -> bool:
        """Call it off: it never starts or, if it runs, is told to stop within seconds. False when it has ended."""
        return await TaskQueue(self._outbox, self._settings).cancel(self.task_id)

    @property
    def _outbox(self) -> Database:
        if self.database is None:
            raise AppKitError(
                "This task was enqueued in a session that belongs to no app, so that nobody knows where it is now. "
                "Use TaskHandle(task_id, database)."
            )
        return self.database

    @property
    def _settings(self) -> TasksSettings:
        context = self._outbox.context
        return TasksSettings() if context is None else context.settings.tasks

    async def _read(self) -> OutboxTask | None:
        async with self._outbox.read_session(primary=True) as db:
            row: OutboxTask | None = await db.scalar(select(OutboxTask).where(OutboxTask.task_id == self.task_id))
            return row


def _outcome(row: OutboxTask) -> Any:
    if row.state == TaskState.DONE:
        return row.result
    raise TaskFailedError(f"Task {row.task_id} is {row.state}: {row.last_error or 'it was called off'}", row.error_code)
