"""The outbox's rows: tasks that are written in the same transaction as the data they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json
from sqlalchemy import BigInteger, Index, Integer, String, Text, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from appkit.core.context import request_id
from appkit.exceptions import AppKitError
from appkit.repository.base import Base, utcnow, uuid7
from appkit.repository.context import AppContext
from appkit.repository.database import on_commit


class TaskState(StrEnum):
    """Where a task is on its way."""

    PENDING = "pending"
    """It runs as soon as a worker is free."""
    PUBLISHED = "published"
    """It was handed to an external broker."""
    RUNNING = "running"
    SCHEDULED = "scheduled"
    """It failed, and waits for its next attempt."""
    DONE = "done"
    DEAD = "dead"
    """It failed too often, or can't be run at all; `last_error` says why."""


class OutboxTask(Base):
    """A task that has been committed: it is started at least once, and ends done or dead."""

    __tablename__ = "appkit_outbox"
    __table_args__ = (
        # One index for each question that is asked every second, over the few rows that it is about.
        *(
            Index(f"ix_appkit_outbox_{state}", column, postgresql_where=text(rows), sqlite_where=text(rows))
            for state, column, rows in (
                ("pending", "id", "state = 'pending'"),
                ("scheduled", "run_at", "state = 'scheduled'"),
                ("leased", "leased_until", "state = 'running' OR state = 'published'"),
            )
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    task_id: Mapped[str] = mapped_column(String(255), unique=True)
    task_name: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16), default=TaskState.PENDING.value)
    payload: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(default=0)
    """Counted when the row is claimed, so that a crash counts too; also the fence against those who lost the row."""
    max_attempts: Mapped[int | None]
    run_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    leased_until: Mapped[datetime | None]
    progress: Mapped[dict[str, Any] | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


@dataclass(frozen=True, kw_only=True)
class TaskPolicy:
    """What a task is called, and what becomes of it when it fails; what is None follows `TASKS_…`."""

    name: str
    max_attempts: int | None = None
    """Times it is tried, crashes included, before it is dead."""
    retry_delay: float | None = None
    """Seconds before a failed attempt is repeated."""
    timeout: float | None = None
    """Seconds after which an attempt is cancelled, and has failed."""

    @property
    def labels(self) -> dict[str, float]:
        """What Taskiq is to know of it."""
        labels = {"max_attempts": self.max_attempts, "retry_delay": self.retry_delay, "timeout": self.timeout}
        return {name: value for name, value in labels.items() if value is not None}


def add_task(
    session: AsyncSession, policy: TaskPolicy, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> OutboxTask:
    """Add a task to the session's transaction: it runs once that has committed, and never if it is rolled back.

    Raises:
        AppKitError: When an argument can't be written as JSON.
    """
    row = task_row(policy.name, args, kwargs or {}, {"max_attempts": policy.max_attempts})
    session.add(row)
    context = session.info.get("appkit")
    if isinstance(context, AppContext):
        on_commit(session, context.wake)
    return row


def task_row(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], labels: Mapping[str, Any], *, task_id: str | None = None
) -> OutboxTask:
    """A row for a task with these arguments, which carries the id of the request that is being answered."""
    labels = {"request_id": request_id.get(), **{key: value for key, value in labels.items() if value is not None}}
    try:
        payload = from_json(to_json({"args": args, "kwargs": kwargs, "labels": labels}, inf_nan_mode="strings"))
    except PydanticSerializationError as exc:
        raise AppKitError(
            f"An argument of task {name!r} can't be written as JSON: {exc}. Pass ids, or a model."
        ) from None
    limit = payload["labels"].get("max_attempts")
    return OutboxTask(task_id=task_id or uuid7().hex, task_name=name, payload=payload, max_attempts=limit)
