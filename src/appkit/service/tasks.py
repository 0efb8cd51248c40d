"""TaskService: lists, retries, cancels and prunes background tasks, pauses schedules, and reads stats."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import quantiles
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, case, delete, func, null, or_, select, text, update

from appkit.exceptions import ConflictException, NotFoundException
from appkit.repository.context import app_context
from appkit.repository.enqueueing import notify_on_commit
from appkit.repository.outbox import OPEN, OutboxTask, ScheduledTask, TaskState, clock
from appkit.repository.pagination import KeysetPage, keyset_page
from appkit.repository.queue import TaskQueue
from appkit.service.base import BaseService

ENDED: Final = (TaskState.DONE, TaskState.DEAD, TaskState.CANCELLED)
_SAMPLE: Final = 1000


@dataclass(frozen=True)
class TaskStats:
    """Statistics of the outbox, for health checks and metrics."""

    depth: dict[str, dict[str, int]]
    """Number of tasks by queue and state."""
    oldest_pending: float
    """How many seconds the oldest task that may run has waited; 0 if no task waits."""
    rescued: int
    """Number of tasks whose worker died or stopped responding, and that are not done yet."""
    dead: int
    """Number of dead tasks in all queues."""
    duration_p50: float | None
    """Median duration in seconds of the last thousand tasks that are done; None if no task is done."""
    duration_p95: float | None
    """95th percentile of these durations."""


class TaskService(BaseService):
    """Administration of the outbox, in the database session's transaction.

    Each method that gets a `task_id` raises `NotFoundException` if no task has this id.
    """

    async def page(
        self,
        *,
        state: TaskState | None = None,
        queue: str | None = None,
        name: str | None = None,
        cursor: str | None = None,
        size: int = 50,
    ) -> KeysetPage[OutboxTask]:
        """A page of the tasks with this state, queue and name, the newest first.

        Pass the `next_cursor` of the previous page as `cursor`, and the maximum number of tasks as `size`.
        """
        wanted = {"state": state, "queue": queue, "task_name": name}
        query = select(OutboxTask).filter_by(**{key: value for key, value in wanted.items() if value is not None})
        return await keyset_page(self.db, query, order=[OutboxTask.id.desc()], cursor=cursor, size=size)

    async def get(self, task_id: str) -> OutboxTask:
        """The task with this id."""
        task: OutboxTask | None = await self.db.scalar(
            select(OutboxTask).where(OutboxTask.task_id == task_id).execution_options(populate_existing=True)
        )
        if task is None:
            raise NotFoundException
        return task

    async def retry(self, task_id: str) -> OutboxTask:
        """Run a dead or cancelled task again. Its attempts are counted from zero, and its unique key is removed.

        Raises:
            ConflictException: When the task is neither dead nor cancelled.
        """
        over = or_(OutboxTask.state == TaskState.DEAD, OutboxTask.state == TaskState.CANCELLED)
        if not await self._revive(over & (OutboxTask.task_id == task_id)):
            task = await self.get(task_id)
            raise ConflictException(f"This task is {task.state}. Only dead or cancelled tasks can be retried.")
        return await self.get(task_id)

    async def retry_dead(self, *, name: str | None = None) -> int:
        """Run all dead tasks again, or only the dead tasks with one name; returns how many."""
        dead = OutboxTask.state == TaskState.DEAD
        return await self._revive(dead if name is None else dead & (OutboxTask.task_name == name))

    async def cancel(self, task_id: str) -> OutboxTask:
        """Cancel a task. A running task is interrupted within seconds.

        Raises:
            ConflictException: When the task has already ended.
        """
        context = app_context(self.db)
        if not await TaskQueue(context.database, context.settings.tasks).cancel(task_id, self.db):
            task = await self.get(task_id)
            raise ConflictException(f"This task is {task.state}, so it can't be cancelled.")
        return await self.get(task_id)

    async def prune(self, *, older_than: timedelta = timedelta(), state: TaskState | None = None) -> int:
        """Delete tasks that ended longer ago than `older_than`, with this state if given; returns how many.

        Raises:
            ConflictException: When tasks in this state have not ended.
        """
        if state is not None and state not in ENDED:
            raise ConflictException(f"A task that is {state} has not ended. Cancel it first.")
        ended = OutboxTask.state.in_(ENDED if state is None else [state])
        old = OutboxTask.finished_at <= clock(-older_than.total_seconds())
        deleted = await self.db.execute(delete(OutboxTask).where(ended, old).returning(OutboxTask.id))
        return len(deleted.all())

    async def stats(self) -> TaskStats:
        """Read the statistics. This counts all rows, so don't call it more often than every few seconds."""
        counts = select(OutboxTask.queue, OutboxTask.state, func.count()).group_by(OutboxTask.queue, OutboxTask.state)
        depth: dict[str, dict[str, int]] = {}
        for queue, state, count in await self.db.execute(counts):
            depth.setdefault(queue, {})[state] = count
        waits = OutboxTask.state.in_([TaskState.PENDING, TaskState.PUBLISHED])
        since = func.min(case((OutboxTask.run_at.is_(None), OutboxTask.created_at), else_=OutboxTask.run_at))
        first, now = (await self.db.execute(select(since, clock(0)).where(waits))).one()
        lost = select(func.count()).where(OutboxTask.error_code == "TASK_LOST", OutboxTask.state != TaskState.DONE)
        rescued = await self.db.scalar(lost)
        p50, p95 = await self._durations()
        return TaskStats(
            depth=depth,
            oldest_pending=max(0.0, (now - first).total_seconds()) if first else 0.0,
            rescued=rescued or 0,
            dead=sum(states.get(TaskState.DEAD, 0) for states in depth.values()),
            duration_p50=p50,
            duration_p95=p95,
        )

    async def of_user(self, user_id: UUID, *, also: Sequence[str] = ()) -> list[OutboxTask]:
        """The tasks that a user's requests have enqueued: all open tasks, and ended tasks if their id is in `also`."""
        actor = OutboxTask.payload["labels"]["user_id"].as_string() == str(user_id)
        query = select(OutboxTask).where(actor, or_(text(OPEN), OutboxTask.task_id.in_(also)))
        return [*await self.db.scalars(query.order_by(OutboxTask.id).execution_options(populate_existing=True))]

    async def schedules(self) -> Sequence[ScheduledTask]:
        """All schedules, including those of other versions of the app."""
        return (await self.db.scalars(select(ScheduledTask).order_by(ScheduledTask.name))).all()

    async def pause(self, name: str, *, paused: bool = True) -> ScheduledTask:
        """Pause a schedule, or resume it from the next slot on.

        Raises:
            NotFoundException: When no schedule has this name.
        """
        schedule = await self.db.get(ScheduledTask, name)
        if schedule is None:
            raise NotFoundException
        schedule.paused = paused
        return await self.save(schedule)

    async def _revive(self, which: ColumnElement[bool]) -> int:
        fresh = {"state": TaskState.PENDING, "attempts": 0, "cancel_requested": False}
        blank = dict.fromkeys(["run_at", "expires_at", "finished_at", "keep_until", "unique_key", "progress"], null())
        revived = await self.db.execute(update(OutboxTask).where(which).values(fresh | blank).returning(OutboxTask.id))
        notify_on_commit(self.db)
        return len(revived.all())

    async def _durations(self) -> tuple[float | None, float | None]:
        done = select(OutboxTask.started_at, OutboxTask.finished_at).where(OutboxTask.state == TaskState.DONE)
        rows = await self.db.execute(done.order_by(OutboxTask.keep_until.desc()).limit(_SAMPLE))
        taken = [(end - start).total_seconds() for start, end in rows if start and end]
        if len(taken) < 2:  # noqa: PLR2004 - quantiles need two values
            return (taken[0], taken[0]) if taken else (None, None)
        cuts = quantiles(taken, n=20, method="inclusive")
        return cuts[9], cuts[18]
