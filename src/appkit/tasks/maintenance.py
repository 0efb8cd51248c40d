"""Maintenance of the outbox: makes due tasks pending, rescues and expires tasks, prunes rows, and runs schedules.

Each process that polls also runs the maintenance. There is no leader.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from appkit.core.settings import TasksSettings
from appkit.repository.database import Database
from appkit.repository.outbox import TaskState, clock
from appkit.repository.queue_statements import (
    DEADLINES,
    DUE,
    EXPIRED,
    LEASE_EXPIRED,
    NO_LEASE,
    WAITING,
    ClaimedTask,
    either,
    ended,
    in_state,
    ready,
    rescheduled,
    rows,
    unless_cancelled,
)
from appkit.tasks.schedule import Schedules

PRUNE_BATCH: Final = 1000
"""The maximum number of rows that one transaction deletes. A short transaction releases its locks soon."""
PRUNE_INTERVAL: Final = 60.0
REPORT_INTERVAL: Final = 600.0

logger = logging.getLogger(__name__)


class PollResult(NamedTuple):
    """The state of the outbox."""

    ready: bool
    """Whether a task may run."""
    overdue: bool
    """Whether `process_overdue` has something to do."""
    wait: float | None
    """Seconds until the next deadline; None if no row has a deadline."""


class RescuedTask(NamedTuple):
    """A task whose worker died or stopped renewing the lease, with the new state of the task."""

    task_name: str
    task_id: str
    state: str


class Maintenance:
    """Queries and changes of all rows, even of rows that other processes have claimed."""

    def __init__(self, database: Database, settings: TasksSettings) -> None:
        self._database = database
        self._settings = settings

    async def poll(self, names: Collection[str]) -> PollResult:
        """Read the state of the outbox by one query without locks."""
        deadlines = [select(func.min(deadline)).where(which).scalar_subquery() for deadline, which in DEADLINES]
        any_ready = ready(WAITING, self._settings, lock=False).exists()
        async with self._database.read_session(primary=True) as session:
            found = await session.execute(select(clock(0), any_ready, *deadlines), {"names": [*names], "limit": 1})
            now, is_ready, *times = found.one()
        waits = [(time - now).total_seconds() for time in times if time is not None]
        overdue = any(wait <= 0 for wait in waits)
        return PollResult(is_ready, overdue, min((wait for wait in waits if wait > 0), default=None))

    async def process_overdue(self, in_flight: Collection[ClaimedTask] = ()) -> list[RescuedTask]:
        """Make due tasks pending and expired tasks dead, and rescue tasks whose lease has expired.

        Tasks `in_flight` in this process are not rescued, even if their lease was renewed too late.
        """
        expired = {"last_error": "Task expired before a worker picked it up.", "error_code": "TASK_EXPIRED"}
        async with self._database.session() as session:
            await session.execute(update(rows).where(DUE).values(state=TaskState.PENDING))
            await session.execute(update(rows).where(EXPIRED).values(expired | ended(TaskState.DEAD, self._settings)))
            rescued = await session.execute(self._rescue(rows.c.id.not_in([task.id for task in in_flight])))
            return [RescuedTask(*row) for row in rescued]

    async def prune(self) -> int:
        """Delete a batch of ended tasks whose retention time is over; returns how many."""
        over = in_state(TaskState.DONE) | in_state(TaskState.DEAD) | in_state(TaskState.CANCELLED)
        old = select(rows.c.id).where(over, rows.c.keep_until < clock(0)).limit(PRUNE_BATCH)
        async with self._database.session() as session:
            deleted = await session.execute(delete(rows).where(rows.c.id.in_(old)).returning(rows.c.id))
            return len(deleted.all())

    async def count_unknown(self, names: Collection[str]) -> dict[str, int]:
        """The number of pending tasks for each name that this process doesn't know."""
        waiting = select(rows.c.task_name, func.count()).where(
            in_state(TaskState.PENDING), rows.c.task_name.not_in(names)
        )
        async with self._database.read_session(primary=True) as session:
            return dict(list(await session.execute(waiting.group_by(rows.c.task_name))))

    def _rescue(self, elsewhere: ColumnElement[bool]) -> ReturningUpdate[Any]:
        settings = self._settings
        spent = rows.c.attempts >= func.coalesce(rows.c.max_attempts, settings.max_attempts)
        # A task that kills its process also interrupts the other tasks of that process. So the second rescue
        # spreads tasks over the next lease duration: they no longer run together.
        spread = {"state": TaskState.SCHEDULED, "run_at": clock((rows.c.id % 10) * (settings.lease / 10)), **NO_LEASE}
        values = either(spent, ended(TaskState.DEAD, settings), either(rows.c.attempts > 1, spread, rescheduled(0)))
        error = {"last_error": "Lease expired: the worker died or stopped responding.", "error_code": "TASK_LOST"}
        return (
            update(rows)
            .where(LEASE_EXPIRED, elsewhere)
            .values(unless_cancelled(values, settings) | error)
            .returning(rows.c.task_name, rows.c.task_id, rows.c.state)
        )


@dataclass(eq=False)
class PeriodicMaintenance:
    """Runs each part of the maintenance when this part is due."""

    maintenance: Maintenance
    schedules: Schedules
    names: Callable[[], Collection[str]]
    """Returns the names of the tasks that this process knows."""
    in_flight: Callable[[], Collection[ClaimedTask]]
    """Returns the tasks that this process runs."""
    interval: float
    """Seconds between polls."""

    def __post_init__(self) -> None:
        self._next_poll = self._next_slot = self._next_prune = self._next_report = 0.0

    @property
    def due(self) -> bool:
        """Whether `run()` is due. It must then run even while there are tasks to claim."""
        return monotonic() >= min(self._next_poll, self._next_slot)

    async def run(self) -> PollResult:
        """Run the parts that are due, and return the state of the outbox."""
        now = monotonic()
        polled = await self.maintenance.poll(self.names())
        if polled.overdue:
            for task in await self.maintenance.process_overdue(self.in_flight()):
                logger.warning("Task %s %s is %s: its worker died or stopped responding.", *task)
        is_ready = polled.ready or polled.overdue or now >= self._next_slot
        if now >= self._next_slot:
            self._next_slot = now + await self.schedules.run()
        if now >= self._next_prune:
            deleted = await self.maintenance.prune()
            self._next_prune = now + (0 if deleted == PRUNE_BATCH else PRUNE_INTERVAL)
        if now >= self._next_report:
            await self._report_unknown()
            self._next_report = now + REPORT_INTERVAL
        self._next_poll = now + self.interval
        until_slot = max(0.0, self._next_slot - monotonic())
        return PollResult(is_ready, polled.overdue, until_slot if polled.wait is None else min(polled.wait, until_slot))

    async def _report_unknown(self) -> None:
        for name, count in (await self.maintenance.count_unknown(self.names())).items():
            logger.warning(
                "%d pending tasks are named %r, which this process doesn't know. "
                "Was the task renamed, or is its module not imported?",
                count,
                name,
            )
