"""TaskQueue: the outbox as workers see it, and how its rows change hands.

Apart from `outbox`, because whoever writes a task needs none of this.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from secrets import token_hex
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, Table, case, func, literal_column, null, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from appkit.core.settings import TasksSettings
from appkit.repository.base import Base, UTCDateTime
from appkit.repository.database import Database
from appkit.repository.outbox import OutboxTask, TaskState

_rows: Final[Table] = Base.metadata.tables[OutboxTask.__tablename__]
_UNLEASED: Final = {"lease_owner": null(), "leased_until": null()}


class ClaimedTask(NamedTuple):
    """A row as it was when it was claimed."""

    id: int
    attempts: int
    task_id: str
    task_name: str
    payload: dict[str, Any]
    max_attempts: int | None

    @property
    def key(self) -> tuple[int, int]:
        """Which attempt at which task this is: what may change the row."""
        return self.id, self.attempts


class TaskQueue:
    """What workers do with tasks. A change is made only by whoever claimed the task last: attempts are the fence.

    Args:
        database: Where the rows are.
        settings: How long a lease is, and how often a task is tried.
        owner: What rows say about who has them; unless given, a name that no process had before.
    """

    def __init__(self, database: Database, settings: TasksSettings, owner: str | None = None) -> None:
        self._database = database
        self._settings = settings
        self.owner = owner or f"{socket.gethostname()[:32]}:{os.getpid()}:{token_hex(4)}"

    async def claim(self, names: Collection[str], *, limit: int = 1, task_id: str | None = None) -> list[ClaimedTask]:
        """Take the oldest tasks that may run, or the one with this id; from now on it counts as an attempt."""
        if task_id is None:
            ready = _oldest_pending(names, limit)
        else:
            ready = select(_rows.c.id).where(
                _rows.c.task_id == task_id,
                _in(TaskState.PENDING) | _in(TaskState.PUBLISHED),
                _rows.c.task_name.in_(names),
            )
            ready = ready.with_for_update()  # Wait for whoever published it, and may not have committed that yet.
        statement = (
            update(_rows)
            .where(_rows.c.id.in_(ready))
            .values(
                state=TaskState.RUNNING,
                attempts=_rows.c.attempts + 1,
                lease_owner=self.owner,
                leased_until=clock(self._settings.lease),
                started_at=clock(0),
            )
            .returning(*(_rows.c[field] for field in ClaimedTask._fields))
        )
        async with self._database.session() as session:
            claimed = [ClaimedTask(*row) for row in await session.execute(statement)]
        return sorted(claimed, key=lambda task: task.id)

    async def publish(
        self, names: Collection[str], limit: int, send: Callable[[Sequence[tuple[str, str]]], Awaitable[None]]
    ) -> int:
        """Hand the oldest tasks that may run to an external broker; one that nobody claims is handed over again.

        Args:
            names: The tasks that this process knows.
            limit: How many at the most.
            send: Called with pairs of id and name, before the commit: when it raises, nothing has happened.
        """
        statement = (
            update(_rows)
            .where(_rows.c.id.in_(_oldest_pending(names, limit)))
            .values(state=TaskState.PUBLISHED, leased_until=clock(self._settings.lease))
            .returning(_rows.c.id, _rows.c.task_id, _rows.c.task_name)
        )
        async with self._database.session() as session:
            published = sorted(await session.execute(statement))
            if published:
                await send([(task_id, name) for _, task_id, name in published])
        return len(published)

    async def tick(self, running: Collection[int]) -> list[tuple[str, str, str]]:
        """Make those tasks pending whose time has come, and those that nobody has any more.

        Args:
            running: Ids of rows that this process is at work on, however late it is with their leases.

        Returns:
            Name, id and new state of each task whose process died or stopped answering.
        """
        expired = _rows.c.leased_until < clock(0)
        spent = _rows.c.attempts >= func.coalesce(_rows.c.max_attempts, self._settings.max_attempts)
        due = _in(TaskState.SCHEDULED) & (_rows.c.run_at <= clock(0))
        overlooked = _in(TaskState.PUBLISHED) & expired
        rescue = (
            update(_rows)
            .where(_in(TaskState.RUNNING), expired, _rows.c.id.not_in(running))
            .values(
                state=case((spent, TaskState.DEAD), else_=TaskState.PENDING),
                finished_at=case((spent, clock(0)), else_=null()),
                last_error="The process that ran it died, or stopped answering.",
                **_UNLEASED,
            )
            .returning(_rows.c.task_name, _rows.c.task_id, _rows.c.state)
        )
        async with self._database.session() as session:
            for rows in (due, overlooked):
                await session.execute(update(_rows).where(rows).values(state=TaskState.PENDING, leased_until=null()))
            return list(await session.execute(rescue))

    async def renew(self, tasks: Collection[ClaimedTask]) -> set[tuple[int, int]]:
        """Hold these tasks for another lease; returns the keys of those that are ours still."""
        statement = (
            update(_rows)
            .where(tuple_(_rows.c.id, _rows.c.attempts).in_([task.key for task in tasks]), self._ours)
            .values(leased_until=clock(self._settings.lease))
            .returning(_rows.c.id, _rows.c.attempts)
        )
        async with self._database.session() as session:
            return set(await session.execute(statement))

    async def finish(self, task: ClaimedTask, session: AsyncSession | None = None) -> bool:
        """Write that it is done, in this transaction or one of its own; False when somebody else has it by now."""
        values = {"state": TaskState.DONE, "finished_at": clock(0), "last_error": null(), **_UNLEASED}
        return await self._change(task, values, session)

    async def fail(self, task: ClaimedTask, error: str, *, retry_in: float | None) -> bool:
        """Write what went wrong, and when to try again; None means never. False when somebody else has it by now."""
        if retry_in is None:
            outcome: dict[str, Any] = {"state": TaskState.DEAD, "finished_at": clock(0)}
        else:
            outcome = {"state": TaskState.SCHEDULED, "run_at": clock(retry_in)}
        return await self._change(task, {"last_error": error, **outcome, **_UNLEASED})

    async def report(self, task: ClaimedTask, progress: Mapping[str, Any]) -> bool:
        """Write how far it has come; False when somebody else has it by now."""
        return await self._change(task, {"progress": dict(progress)})

    async def release(self) -> None:
        """Give back whatever this process has, as if it had never been claimed."""
        values = {"state": TaskState.PENDING, "attempts": _rows.c.attempts - 1, **_UNLEASED}
        async with self._database.session() as session:
            await session.execute(update(_rows).where(self._ours).values(values))

    async def requeue(self, task_id: str) -> bool:
        """Make a running task pending again; False when none with this id runs."""
        running = (_rows.c.task_id == task_id) & _in(TaskState.RUNNING)
        statement = update(_rows).where(running).values(state=TaskState.PENDING, **_UNLEASED)
        async with self._database.session() as session:
            return (await session.execute(statement.returning(_rows.c.id))).first() is not None

    async def unknown(self, names: Collection[str]) -> dict[str, int]:
        """How many tasks wait for a process that knows them, by name."""
        waiting = select(_rows.c.task_name, func.count()).where(_in(TaskState.PENDING), _rows.c.task_name.not_in(names))
        async with self._database.read_session(primary=True) as session:
            return dict(list(await session.execute(waiting.group_by(_rows.c.task_name))))

    @property
    def _ours(self) -> ColumnElement[bool]:
        return (_rows.c.lease_owner == self.owner) & _in(TaskState.RUNNING)

    async def _change(self, task: ClaimedTask, values: Mapping[str, Any], session: AsyncSession | None = None) -> bool:
        if session is None:
            async with self._database.session() as own:
                return await self._change(task, values, own)
        fence = (_rows.c.id == task.id) & (_rows.c.attempts == task.attempts) & self._ours
        changed = await session.execute(update(_rows).where(fence).values(values).returning(_rows.c.id))
        return changed.first() is not None


def _in(state: TaskState) -> ColumnElement[bool]:
    """Spelt out in the statement, for a parameter might be anything, and SQLite would use no partial index."""
    return _rows.c.state == literal_column(f"'{state}'")


def _oldest_pending(names: Collection[str], limit: int) -> Select[int]:
    """The ids of the oldest tasks that may run and that no other process is about to take."""
    pending = select(_rows.c.id).where(_in(TaskState.PENDING), _rows.c.task_name.in_(names))
    oldest = pending.order_by(_rows.c.id).limit(limit).with_for_update(skip_locked=True)
    # A common table expression, for PostgreSQL may run a plain subquery several times, and lock more each time.
    return select(oldest.cte("oldest").c.id)


class clock(FunctionElement[datetime]):  # noqa: N801 - reads as SQL's own functions do
    """The database's time, some seconds from now: the only clock that processes on several machines agree on."""

    type = UTCDateTime()
    inherit_cache = True


@compiles(clock)
def _clock(element: clock, compiler: SQLCompiler, **options: Any) -> str:
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)}))"


@compiles(clock, "sqlite")
def _sqlite_clock(element: clock, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {seconds} || ' seconds')"
