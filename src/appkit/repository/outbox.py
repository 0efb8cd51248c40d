"""The outbox's rows: tasks that are written in the same transaction as the data they belong to."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic_core import PydanticSerializationError, from_json, to_json
from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from appkit.core.context import request_id, user_id
from appkit.exceptions import AppKitError
from appkit.repository.base import Base, UTCDateTime, utcnow, uuid7
from appkit.repository.context import AppContext
from appkit.repository.database import on_commit

Scope = Literal["until_start", "until_done", "retained"]
"""How long a unique key is taken: until the task is first started, until it has ended, or while its row is kept."""

Key = str | Callable[..., object]
"""A key, or what makes one of a task's arguments."""

CHANNEL: Final = "appkit_outbox"
"""What PostgreSQL calls the commits of tasks."""

MAX_KEY: Final = 255  # characters
_VERSION: Final = 1


class TaskState(StrEnum):
    """Where a task is on its way."""

    PENDING = "pending"
    """It runs as soon as a worker is free."""
    PUBLISHED = "published"
    """It runs as soon as a worker is free, and an external broker was told."""
    RUNNING = "running"
    SCHEDULED = "scheduled"
    """It waits for its time: it was meant for later, or it failed and is tried again."""
    DONE = "done"
    DEAD = "dead"
    """It failed too often, or can't be run at all; `last_error` says why."""
    CANCELLED = "cancelled"
    """Somebody called it off, or it did so itself."""


OPEN: Final = "state IN ('scheduled', 'pending', 'published', 'running')"
"""Tasks that have not ended. Spelt out, for SQLite takes a partial index only where a query says the same words."""


class OutboxTask(Base):
    """A task that has been committed: it is started at least once, unless cancelled, and ends in one of three ways."""

    __tablename__ = "appkit_outbox"
    __allow_unmapped__ = True  # `created` is no column.
    __table_args__ = (
        CheckConstraint(f"state IN {tuple(map(str, TaskState))}", name="state"),
        # One index for each question that is asked every second, over the few rows that it is about.
        *(
            Index(
                f"ix_appkit_outbox_{name}",
                *columns,
                postgresql_where=text(rows),
                sqlite_where=text(rows),
            )
            for name, columns, rows in (
                ("waiting", ("rank", "id"), "state = 'pending' OR state = 'published'"),
                ("scheduled", ("run_at",), "state = 'scheduled'"),
                ("leased", ("leased_until",), "state = 'running'"),
                ("expiring", ("expires_at",), f"expires_at IS NOT NULL AND {OPEN}"),
                ("ordered", ("ordering_key", "id"), f"ordering_key IS NOT NULL AND {OPEN}"),
                ("ended", ("keep_until",), "state IN ('done', 'dead', 'cancelled')"),
            )
        ),
        {
            "sqlite_autoincrement": True,
            # Each row is changed a few times and then deleted: leave room to do that in place, and clean up often.
            "postgresql_with": {"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.02},
        },
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    task_id: Mapped[str] = mapped_column(String(255), unique=True)
    task_name: Mapped[str] = mapped_column(String(255))
    queue: Mapped[str] = mapped_column(String(64), default="default")
    rank: Mapped[int] = mapped_column(SmallInteger, default=0)
    """The smallest goes first, among those that may run: the priority turned around, for indexes go upward."""
    state: Mapped[str] = mapped_column(String(16), default=TaskState.PENDING.value)
    payload: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(default=0)
    """Counted when the row is claimed, so that a crash counts too; also the fence against those who lost the row."""
    max_attempts: Mapped[int | None]
    run_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    """If it has not been started by then, it is dead."""
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    leased_until: Mapped[datetime | None]
    unique_key: Mapped[str | None] = mapped_column(String(MAX_KEY), unique=True)
    """No other row has it; None as soon as its scope is over."""
    unique_scope: Mapped[str | None] = mapped_column(String(16))
    ordering_key: Mapped[str | None] = mapped_column(String(MAX_KEY))
    """Tasks with the same one run one after the other, as they were written."""
    progress: Mapped[dict[str, Any] | None]
    result: Mapped[Any | None] = mapped_column(
        JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    )
    last_error: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(String(64))
    """The `internal_code` of what it failed with, or a word of ours."""
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    keep_until: Mapped[datetime | None]
    """When the row of a task that has ended is deleted."""

    @property
    def priority(self) -> int:
        """The largest goes first, among those that may run."""
        return -self.rank

    created: bool | None = None
    """Of a row with a unique key, after the flush: whether it was written, or another one is there already."""


class ScheduledTask(Base):
    """How far a schedule has come. What it runs and when is in the code; the row is made when it is first seen."""

    __tablename__ = "appkit_schedule"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    cron: Mapped[str] = mapped_column(String(255))
    timezone: Mapped[str] = mapped_column(String(64))
    last_slot: Mapped[datetime]
    """The latest moment that has been dealt with."""
    paused: Mapped[bool] = mapped_column(default=False)


@dataclass(frozen=True, kw_only=True)
class TaskPolicy:
    """What a task is called and how it is run; what is None follows `TASKS_…`."""

    name: str
    queue: str = "default"
    """Which workers run it: those of its queue, and those of every queue."""
    priority: int = 0
    """From -100 to 100; the largest goes first."""
    max_attempts: int | None = None
    """Times it is tried, crashes included, before it is dead."""
    retry_delay: float | None = None
    """Seconds before the second attempt; they double with each further one, and vary by a quarter."""
    timeout: float | None = None
    """Seconds after which an attempt is cancelled, and has failed."""
    unique_key: Key | None = None
    """While another task of this name has the same key, no more is written."""
    unique_scope: Scope = "until_done"
    ordering_key: Key | None = None
    """Tasks with the same key, of any name, run one after the other."""
    delay: float | timedelta | None = None
    """Seconds to wait before it may run."""
    run_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def labels(self) -> dict[str, float]:
        """What Taskiq is to know of it."""
        labels = {"max_attempts": self.max_attempts, "retry_delay": self.retry_delay, "timeout": self.timeout}
        return {name: value for name, value in labels.items() if value is not None}


def add_task(
    session: AsyncSession,
    policy: TaskPolicy,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
) -> OutboxTask:
    """Add a task to the session's transaction: it runs once that has committed, and never if it is rolled back.

    It is written at the next flush; with a unique key, unless there is such a task, whose id it has from then on.

    Raises:
        AppKitError: When an argument can't be written as JSON, or a key is too long.
    """
    row = task_row(policy, args, kwargs or {}, labels)
    session.add(row)
    if not event.contains(session.sync_session, "before_flush", _write):
        event.listen(session.sync_session, "before_flush", _write)
    announce(session)
    return row


async def add_tasks(
    session: AsyncSession, policy: TaskPolicy, calls: Collection[tuple[Sequence[Any], Mapping[str, Any]]]
) -> list[OutboxTask]:
    """Write many tasks at once, far faster than one by one.

    Raises:
        AppKitError: When an argument can't be written as JSON, or a key is too long.
    """
    rows = [task_row(policy, args, kwargs) for args, kwargs in calls]
    await session.run_sync(_insert, rows)
    announce(session)
    return rows


def announce(session: AsyncSession) -> None:
    """See that work is looked for once this session has committed."""
    context = session.info.get("appkit")
    if isinstance(context, AppContext):
        on_commit(session, context.wake)
        if context.notifies and not event.contains(session.sync_session, "before_commit", _notify):
            event.listen(session.sync_session, "before_commit", _notify)


def _notify(session: Session) -> None:
    """Have PostgreSQL tell workers elsewhere, once the transaction is committed and not before."""
    if not session.in_nested_transaction():
        session.execute(select(func.pg_notify(CHANNEL, "")))


def task_row(
    policy: TaskPolicy,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    labels: Mapping[str, Any] | None = None,
    *,
    task_id: str | None = None,
) -> OutboxTask:
    """A row for a task with these arguments, which carries the ids of the work that is in hand.

    Args:
        policy: How it is run.
        args: Its arguments by their place.
        kwargs: And by their name.
        labels: What else Taskiq is to know.
        task_id: Its id, where it has one.
    """
    labels = {**_origin(), **(labels or {})}
    try:
        payload = from_json(to_json({"args": args, "kwargs": kwargs, "labels": labels}, inf_nan_mode="strings"))
    except PydanticSerializationError as exc:
        raise AppKitError(
            f"An argument of task {policy.name!r} can't be written as JSON: {exc}. Pass ids, or a model."
        ) from None
    unique_key = _key(policy, "unique_key", args, kwargs)
    run_at, waits = _start(policy)
    return OutboxTask(
        task_id=task_id or uuid7().hex,
        task_name=policy.name,
        queue=policy.queue,
        rank=-policy.priority,
        state=TaskState.SCHEDULED if waits else TaskState.PENDING,
        payload={"v": _VERSION, **payload},
        max_attempts=policy.max_attempts,
        run_at=run_at,
        expires_at=policy.expires_at,
        unique_key=None if unique_key is None else f"{policy.name}:{unique_key}",
        unique_scope=None if unique_key is None else policy.unique_scope,
        ordering_key=_key(policy, "ordering_key", args, kwargs),
    )


def _origin() -> dict[str, str]:
    """Which request, which person, and which trace a task comes from."""
    ids = {"request_id": request_id.get(), "user_id": user_id.get()}
    origin = {name: value for name, value in ids.items() if value is not None}
    if "opentelemetry.propagate" in sys.modules:  # Only an app that traces has imported it.
        from opentelemetry.propagate import inject

        inject(origin)
    return origin


def _key(
    policy: TaskPolicy, kind: Literal["unique_key", "ordering_key"], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    key: Key | None = getattr(policy, kind)
    if callable(key):
        key = str(key(*args, **kwargs))
    if key is not None and len(key) + len(policy.name) >= MAX_KEY:
        raise AppKitError(f"The {kind} of task {policy.name!r} is longer than {MAX_KEY} characters, name included.")
    return key


def _start(policy: TaskPolicy) -> tuple[Any, bool]:
    """When a new task may run, if that was said, and whether it is in the future."""
    delay = policy.delay.total_seconds() if isinstance(policy.delay, timedelta) else policy.delay
    if delay is not None:
        return clock(delay), delay > 0
    return policy.run_at, policy.run_at is not None and policy.run_at > utcnow()


def _write(session: Session, *_: Any) -> None:
    """Write new rows: together and without the unit of work, which takes longer; or so that an older one is let be."""
    new = [row for row in session.new if isinstance(row, OutboxTask)]
    for row in new:
        session.expunge(row)
    kinds: dict[str | None, list[OutboxTask]] = {}
    for row in new:
        kinds.setdefault(_kind(row), []).append(row)
    for kind, alike in kinds.items():
        if kind is None:
            values = [_values(row) for row in alike]
            session.connection().execute(_INSERT, values if len(values) > 1 else values[0])
        else:
            _insert(session, alike)


def _kind(row: OutboxTask) -> str | None:
    """None for a row that one statement for all can write."""
    return None if row.unique_key is None and not isinstance(row.run_at, FunctionElement) else row.task_id


def _insert(session: Session, rows: Sequence[OutboxTask]) -> None:
    """Write rows of one kind, and give those whose key was taken the id of the task that has it."""
    open_rows = {row.task_id: row for row in rows}
    while open_rows:
        run_at: Any = next(iter(open_rows.values())).run_at
        started = {"run_at": run_at} if isinstance(run_at, FunctionElement) else {}
        statement = insert_missing(session, OutboxTask, "unique_key", **started).returning(OutboxTask.task_id)
        written = session.execute(statement, [_values(row) for row in open_rows.values()])
        for task_id in written.scalars():
            open_rows.pop(task_id).created = True
        taken = select(OutboxTask.unique_key, OutboxTask.task_id)
        taken = taken.where(OutboxTask.unique_key.in_([row.unique_key for row in open_rows.values()]))
        holders = dict(list(session.execute(taken))) if open_rows else {}
        for row in [row for row in open_rows.values() if row.unique_key in holders]:
            del open_rows[row.task_id]
            row.task_id, row.created = holders[row.unique_key], False
        # A holder that ended between the two statements has left its key to us.


_INSERT: Final = insert(Base.metadata.tables[OutboxTask.__tablename__]).inline()


def insert_missing(session: Session, table: type[Base], key: str, **values: Any) -> Any:
    """An INSERT that leaves alone what another row's key stands for already."""
    insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgresql_insert
    statement = insert(Base.metadata.tables[table.__tablename__]).on_conflict_do_nothing(index_elements=[key])
    return statement.values(values) if values else statement


def _values(row: OutboxTask) -> dict[str, Any]:
    columns = OutboxTask.__table__.c
    given = {name: value for name, value in vars(row).items() if name in columns}
    return {name: value for name, value in given.items() if not isinstance(value, FunctionElement)}


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
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({seconds}) || ' seconds')"
