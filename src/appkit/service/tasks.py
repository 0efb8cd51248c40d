"""TaskService: looking after the background tasks: what there is, what went wrong, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import quantiles
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, case, delete, func, null, or_, select, text, update

from appkit.exceptions import ConflictException, NotFoundException
from appkit.repository.context import app_context
from appkit.repository.enqueueing import announce
from appkit.repository.outbox import OPEN, OutboxTask, ScheduledTask, TaskState, clock
from appkit.repository.pagination import KeysetPage, keyset_page
from appkit.repository.queue import TaskQueue
from appkit.service.base import BaseService

ENDED: Final = (TaskState.DONE, TaskState.DEAD, TaskState.CANCELLED)
_SAMPLE: Final = 1000


@dataclass(frozen=True)
class TaskFigures:
    """How the tasks are doing, for health checks, metrics and people."""

    depth: dict[str, dict[str, int]]
    """How many there are, by queue and state."""
    oldest_pending: float
    """Seconds that the first of those that could run has been waiting; 0 without any."""
    rescued: int
    """How many a process that died or stopped answering left behind, that have not been done since."""
    dead: int
    """How many are dead, over all queues."""
    duration_p50: float | None
    """Seconds that half of the last thousand that are done took at the most; None without any."""
    duration_p95: float | None
    """Seconds that all but a twentieth of them took at the most."""


class TaskService(BaseService):
    """The rows of the outbox, for those who look after it. Its session decides what belongs together, as ever."""

    async def page(
        self,
        *,
        state: TaskState | None = None,
        queue: str | None = None,
        name: str | None = None,
        cursor: str | None = None,
        size: int = 50,
    ) -> KeysetPage[OutboxTask]:
        """A page of the tasks, the youngest first.

        Args:
            state: Only those in this state.
            queue: Only those of this queue.
            name: Only those of this name.
            cursor: Where the page before ended.
            size: How many at the most.
        """
        wanted = {"state": state, "queue": queue, "task_name": name}
        query = select(OutboxTask).filter_by(**{key: value for key, value in wanted.items() if value is not None})
        return await keyset_page(self.db, query, order=[OutboxTask.id.desc()], cursor=cursor, size=size)

    async def get(self, task_id: str) -> OutboxTask:
        """One task.

        Raises:
            NotFoundException: When there is none with this id, or none any more.
        """
        task: OutboxTask | None = await self.db.scalar(
            select(OutboxTask).where(OutboxTask.task_id == task_id).execution_options(populate_existing=True)
        )
        if task is None:
            raise NotFoundException
        return task

    async def retry(self, task_id: str) -> OutboxTask:
        """Run a task again that is dead or was cancelled, with all its attempts before it, and no unique key any more.

        Raises:
            NotFoundException: When there is none with this id, or none any more.
            ConflictException: When it is neither.
        """
        over = or_(OutboxTask.state == TaskState.DEAD, OutboxTask.state == TaskState.CANCELLED)
        if not await self._revive(over & (OutboxTask.task_id == task_id)):
            task = await self.get(task_id)
            raise ConflictException(
                f"This task is {task.state}. Only one that is dead or was cancelled can be retried."
            )
        return await self.get(task_id)

    async def retry_dead(self, *, name: str | None = None) -> int:
        """Run all tasks again that are dead, or those of one name; returns how many."""
        dead = OutboxTask.state == TaskState.DEAD
        return await self._revive(dead if name is None else dead & (OutboxTask.task_name == name))

    async def cancel(self, task_id: str) -> OutboxTask:
        """Call a task off: it never starts or, if it runs, is told to stop.

        Raises:
            NotFoundException: When there is none with this id, or none any more.
            ConflictException: When it has ended.
        """
        context = app_context(self.db)
        if not await TaskQueue(context.database, context.settings.tasks).cancel(task_id, self.db):
            task = await self.get(task_id)
            raise ConflictException(f"This task is {task.state}, and can't be called off any more.")
        return await self.get(task_id)

    async def prune(self, *, older_than: timedelta = timedelta(), state: TaskState | None = None) -> int:
        """Delete tasks that have ended, though they would be kept; returns how many.

        Args:
            older_than: Only those that ended so long ago.
            state: Only those that ended so.

        Raises:
            ConflictException: When tasks in this state have not ended.
        """
        if state is not None and state not in ENDED:
            raise ConflictException(f"A task that is {state} has not ended. Cancel it first.")
        ended = OutboxTask.state.in_(ENDED if state is None else [state])
        old = OutboxTask.finished_at <= clock(-older_than.total_seconds())
        deleted = await self.db.execute(delete(OutboxTask).where(ended, old).returning(OutboxTask.id))
        return len(deleted.all())

    async def figures(self) -> TaskFigures:
        """How the tasks are doing. It counts every row that is kept, so ask for it every few seconds at the most."""
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
        return TaskFigures(
            depth=depth,
            oldest_pending=max(0.0, (now - first).total_seconds()) if first else 0.0,
            rescued=rescued or 0,
            dead=sum(states.get(TaskState.DEAD, 0) for states in depth.values()),
            duration_p50=p50,
            duration_p95=p95,
        )

    async def of_user(self, user_id: UUID, *, also: Sequence[str] = ()) -> list[OutboxTask]:
        """The tasks that somebody's requests have started and that have not ended, and those with these ids."""
        actor = OutboxTask.payload["labels"]["user_id"].as_string() == str(user_id)
        query = select(OutboxTask).where(actor, or_(text(OPEN), OutboxTask.task_id.in_(also)))
        return [*await self.db.scalars(query.order_by(OutboxTask.id).execution_options(populate_existing=True))]

    async def schedules(self) -> Sequence[ScheduledTask]:
        """The schedules, those of other versions of the app too."""
        return (await self.db.scalars(select(ScheduledTask).order_by(ScheduledTask.name))).all()

    async def pause(self, name: str, *, paused: bool = True) -> ScheduledTask:
        """Run a schedule no more, or again from the next slot on.

        Raises:
            NotFoundException: When there is none of this name.
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
        announce(self.db)
        return len(revived.all())

    async def _durations(self) -> tuple[float | None, float | None]:
        done = select(OutboxTask.started_at, OutboxTask.finished_at).where(OutboxTask.state == TaskState.DONE)
        rows = await self.db.execute(done.order_by(OutboxTask.keep_until.desc()).limit(_SAMPLE))
        taken = [(end - start).total_seconds() for start, end in rows if start and end]
        if len(taken) < 2:  # noqa: PLR2004 - of one, there are no quantiles
            return (taken[0], taken[0]) if taken else (None, None)
        cuts = quantiles(taken, n=20, method="inclusive")
        return cuts[9], cuts[18]
