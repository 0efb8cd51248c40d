"""The outbox's rows: tasks that are written in the same transaction as the data they belong to."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from appkit.repository.base import Base, UTCDateTime, utcnow

Scope = Literal["until_start", "until_done", "retained"]
"""How long a unique key is taken: until the task is first started, until it has ended, or while its row is kept."""

Key = str | Callable[..., object]
"""A key, or what makes one of a task's arguments."""

CHANNEL: Final = "appkit_outbox"
"""What PostgreSQL calls the commits of tasks."""

MAX_KEY: Final = 255  # characters


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
