"""Tables of the outbox: tasks and schedules."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, Integer, SmallInteger, String, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from appkit.repository.base import Base, UTCDateTime, utcnow

Scope = Literal["until_start", "until_done", "retained"]
"""How long a task has its unique key: until its first start, until its end, or while its row exists."""

Key = str | Callable[..., object]
"""A unique or ordering key, or a function that computes it from the task's arguments."""

CHANNEL: Final = "appkit_outbox"  # of PostgreSQL's NOTIFY
MAX_KEY: Final = 255  # characters


class TaskState(StrEnum):
    """The state of a task."""

    PENDING = "pending"
    """The task runs as soon as a worker is free."""
    PUBLISHED = "published"
    """The task is pending, and it was published to a message broker."""
    RUNNING = "running"
    SCHEDULED = "scheduled"
    """The task was delayed, or it failed and waits for its retry."""
    DONE = "done"
    DEAD = "dead"
    """All attempts failed, or the task can't run at all. `last_error` has the reason."""
    CANCELLED = "cancelled"
    """The task was cancelled, or it raised `Discard`."""


OPEN: Final = "state IN ('scheduled', 'pending', 'published', 'running')"
"""Tasks that have not ended. SQLite uses a partial index only for a query with the text of the index's condition."""


class OutboxTask(Base):
    """A task: one run of a function in the background."""

    __tablename__ = "appkit_outbox"
    __allow_unmapped__ = True  # `created` is no column.
    __table_args__ = (
        CheckConstraint(f"state IN {tuple(map(str, TaskState))}", name="state"),
        # One partial index for each query that runs every second.
        *(
            Index(f"ix_appkit_outbox_{name}", *columns, postgresql_where=text(rows), sqlite_where=text(rows))
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
            # Each row is updated a few times and then deleted: leave room for HOT updates, and vacuum often.
            "postgresql_with": {"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.02},
        },
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    task_id: Mapped[str] = mapped_column(String(255), unique=True)
    task_name: Mapped[str] = mapped_column(String(255))
    queue: Mapped[str] = mapped_column(String(64), default="default")
    rank: Mapped[int] = mapped_column(SmallInteger, default=0)
    """The negative of the priority, because indexes are ascending. The task with the lowest rank runs first."""
    state: Mapped[str] = mapped_column(String(16), default=TaskState.PENDING.value)
    payload: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(default=0)
    """Each claim increments this fencing token: a worker that lost its lease has an older number."""
    max_attempts: Mapped[int | None]
    run_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    """The task is dead if no worker has started it by this time."""
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    leased_until: Mapped[datetime | None]
    unique_key: Mapped[str | None] = mapped_column(String(MAX_KEY), unique=True)
    """Becomes None when the key's scope ends."""
    unique_scope: Mapped[str | None] = mapped_column(String(16))
    ordering_key: Mapped[str | None] = mapped_column(String(MAX_KEY))
    """Tasks with the same ordering key run one after the other, in the order of their ids."""
    progress: Mapped[dict[str, Any] | None]
    result: Mapped[Any | None] = mapped_column(
        JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    )
    last_error: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(String(64))
    """The `internal_code` or the class of the task's exception, or one of appkit's own codes."""
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    keep_until: Mapped[datetime | None]
    """The time after which the row of an ended task is deleted."""

    @property
    def priority(self) -> int:
        """Tasks with a higher priority run first."""
        return -self.rank

    created: bool | None = None
    """For a row with a unique key: False if another task has the key, True after the flush has written the row."""


class ScheduledTask(Base):
    """The progress of a schedule. The first process that has the schedule in its code writes the row."""

    __tablename__ = "appkit_schedule"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    cron: Mapped[str] = mapped_column(String(255))
    timezone: Mapped[str] = mapped_column(String(64))
    last_slot: Mapped[datetime]
    """The latest slot whose task was enqueued or skipped."""
    paused: Mapped[bool] = mapped_column(default=False)


@dataclass(frozen=True, kw_only=True)
class TaskPolicy:
    """A task's name and options. `TaskOptions` and `Task.with_options` document the options."""

    name: str
    queue: str = "default"
    priority: int = 0
    max_attempts: int | None = None
    retry_delay: float | None = None
    timeout: float | None = None
    unique_key: Key | None = None
    unique_scope: Scope = "until_done"
    ordering_key: Key | None = None
    delay: float | timedelta | None = None
    run_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def labels(self) -> dict[str, float]:
        """The labels of Taskiq's message."""
        labels = {"max_attempts": self.max_attempts, "retry_delay": self.retry_delay, "timeout": self.timeout}
        return {name: value for name, value in labels.items() if value is not None}


class clock(FunctionElement[datetime]):  # noqa: N801 - reads as SQL's own functions do
    """The database's time plus some seconds. All processes share this clock, even on several machines."""

    type = UTCDateTime()
    inherit_cache = True


@compiles(clock)
def _compile(element: clock, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    if compiler.dialect.name == "sqlite":
        return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({seconds}) || ' seconds')"
    return f"(statement_timestamp() + make_interval(secs => {seconds}))"
