"""TaskSession and TaskContext: what a task may ask for in its signature."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Annotated

from sqlalchemy.ext.asyncio import AsyncSession
from taskiq_dependencies import Depends

from appkit.core.mail import Mailer
from appkit.core.settings import Settings
from appkit.exceptions import AppKitError
from appkit.tasks.lease import Lease, LeaseLostError, current_lease


class RunningTask:
    """The attempt that runs, and what of its app it needs."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._database = lease.broker.database
        self.task_id = lease.task.task_id
        """The same at each attempt: what to pass on where something outside must happen only once."""
        self.attempt = lease.task.attempts
        """1 at the first attempt."""
        self.deadline = lease.deadline
        """When this attempt is cancelled, where the task has a timeout."""
        self.slot = datetime.fromisoformat(lease.labels["slot"]) if "slot" in lease.labels else None
        """The time that a scheduled task was meant for, which may be a while ago."""
        self.settings: Settings = lease.broker.settings

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody called the task off. An `async def` is cancelled then; a `def` may look here."""
        return self._lease.called_off

    @property
    def mailer(self) -> Mailer:
        """The app's mailer.

        Raises:
            AppKitError: When the broker was made without an app.
        """
        if self._database.context is None:
            raise AppKitError("This broker belongs to no app, and so has no mailer. Use the broker of an AppKit.")
        return self._database.context.mailer

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A transaction of its own, committed when the block ends, whatever becomes of the task."""
        return self._database.session()

    def read_session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A session that only reads; from the primary, for a replica may not know yet what the task is about."""
        return self._database.read_session(primary=True)

    async def progress(self, percent: int, step: str = "") -> None:
        """Say how far the task has come, in a short transaction of its own that others see at once.

        Raises:
            AppKitError: When the task's `TaskSession` holds SQLite's writer. Report before its first statement.
        """
        await self._lease.broker.queue.report(self._lease.task, {"percent": percent, "step": step})


def _task_session() -> AsyncGenerator[AsyncSession, None]:
    lease = current_lease()
    lease.session = _session(lease)
    return lease.session


async def _session(lease: Lease) -> AsyncGenerator[AsyncSession, None]:
    async with lease.broker.database.session() as session:
        try:
            yield session
        except BaseException:  # noqa: BLE001 - Taskiq threw the task's own exception in here, and knows it
            await session.rollback()
            return
        lease.closing = True
        if not await lease.broker.queue.finish(lease.task, session, result=lease.result_json):
            raise LeaseLostError
    lease.settled = True


def _task_context() -> RunningTask:
    return RunningTask(current_lease())


TaskSession = Annotated[AsyncSession, Depends(_task_session)]
"""The task's own session: committed when the task is done, together with the fact that it is. So what a task writes
through it is there exactly once, however often the task is tried. It begins with its first statement."""

TaskContext = Annotated[RunningTask, Depends(_task_context)]
"""The running task: its id, its attempt, its progress, and the app's settings, mailer and sessions."""
