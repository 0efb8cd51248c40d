"""Upkeep: what some process has to see to in the outbox now and then, whoever's tasks they are."""

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from appkit.core.settings import TasksSettings
from appkit.repository.database import Database
from appkit.repository.outbox import TaskState, clock
from appkit.repository.rows import (
    DUE,
    EXPIRED,
    LOST,
    MOMENTS,
    UNLEASED,
    WAITING,
    again,
    either,
    ended,
    in_state,
    ready,
    rows,
    unless_called_off,
)

CLEANUP: Final = 1000
"""Rows that are deleted at once at the most, so that nobody waits long for them."""


class Look(NamedTuple):
    """What there is to do."""

    ready: bool
    """Whether there is a task that may run."""
    overdue: bool
    """Whether there is anything for `tick` to do."""
    wait: float | None
    """Seconds until there is, as far as one can see."""


class Rescued(NamedTuple):
    """A task whose process died or stopped answering, and what has become of it."""

    task_name: str
    task_id: str
    state: str


class Upkeep:
    """Late tasks, lost ones, old ones, and those that nobody knows.

    Args:
        database: Where the rows are.
        settings: How long a lease is, how often a task is tried, and how long it is kept.
    """

    def __init__(self, database: Database, settings: TasksSettings) -> None:
        self._database = database
        self._settings = settings

    async def look(self, names: Collection[str]) -> Look:
        """What there is to do, by one query that takes no lock."""
        moments = [select(func.min(moment)).where(which).scalar_subquery() for moment, which in MOMENTS]
        any_ready = ready(WAITING, self._settings, lock=False).exists()
        async with self._database.read_session(primary=True) as session:
            found = await session.execute(select(clock(0), any_ready, *moments), {"names": [*names], "limit": 1})
            now, is_ready, *times = found.one()
        waits = [(time - now).total_seconds() for time in times if time is not None]
        return Look(is_ready, any(wait <= 0 for wait in waits), min((wait for wait in waits if wait > 0), default=None))

    async def tick(self, running: Collection[int]) -> list[Rescued]:
        """Make those tasks pending whose time has come, and those that nobody has any more; expired ones are dead.

        Args:
            running: Ids of rows that this process is at work on, however late it is with their leases.
        """
        expired = {"last_error": "Nobody had time for it before it expired.", "error_code": "TASK_EXPIRED"}
        async with self._database.session() as session:
            await session.execute(update(rows).where(DUE).values(state=TaskState.PENDING))
            await session.execute(update(rows).where(EXPIRED).values(expired | ended(TaskState.DEAD, self._settings)))
            rescued = await session.execute(self._rescue(rows.c.id.not_in(running)))
            return [Rescued(*row) for row in rescued]

    async def clean(self) -> int:
        """Delete tasks that have ended and been kept for long enough, some of them; returns how many."""
        over = in_state(TaskState.DONE) | in_state(TaskState.DEAD) | in_state(TaskState.CANCELLED)
        old = select(rows.c.id).where(over, rows.c.keep_until < clock(0)).limit(CLEANUP)
        async with self._database.session() as session:
            deleted = await session.execute(delete(rows).where(rows.c.id.in_(old)).returning(rows.c.id))
            return len(deleted.all())

    async def unknown(self, names: Collection[str]) -> dict[str, int]:
        """How many tasks wait for a process that knows them, by name."""
        waiting = select(rows.c.task_name, func.count()).where(
            in_state(TaskState.PENDING), rows.c.task_name.not_in(names)
        )
        async with self._database.read_session(primary=True) as session:
            return dict(list(await session.execute(waiting.group_by(rows.c.task_name))))

    def _rescue(self, elsewhere: ColumnElement[bool]) -> ReturningUpdate[Any]:
        settings = self._settings
        spent = rows.c.attempts >= func.coalesce(rows.c.max_attempts, settings.max_attempts)
        # Whoever kills its process takes along those that run beside it. So that it doesn't do so each time, those who
        # were there twice run apart from then on.
        apart = {"state": TaskState.SCHEDULED, "run_at": clock((rows.c.id % 10) * (settings.lease / 10)), **UNLEASED}
        values = either(spent, ended(TaskState.DEAD, settings), either(rows.c.attempts > 1, apart, again(0)))
        error = {"last_error": "The process that ran it died, or stopped answering.", "error_code": "TASK_LOST"}
        return (
            update(rows)
            .where(LOST, elsewhere)
            .values(unless_called_off(values, settings) | error)
            .returning(rows.c.task_name, rows.c.task_id, rows.c.state)
        )
