"""Enqueueing: write tasks to the outbox in the caller's transaction, and wake workers after the commit."""

import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Literal

from pydantic_core import PydanticSerializationError, from_json, to_json
from sqlalchemy import event, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

from appkit.core.context import request_id, user_id
from appkit.exceptions import AppKitError
from appkit.repository.base import Base, utcnow, uuid7
from appkit.repository.context import AppContext
from appkit.repository.database import on_commit
from appkit.repository.outbox import CHANNEL, MAX_KEY, Key, OutboxTask, TaskPolicy, TaskState, clock
from appkit.repository.upsert import INSERTS

_VERSION: Final = 1
_INSERT: Final = insert(Base.metadata.tables[OutboxTask.__tablename__]).inline()


def add_task(
    session: AsyncSession,
    policy: TaskPolicy,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
) -> OutboxTask:
    """Add a task to the session's transaction. The task runs only after a commit.

    The next flush writes the row. If another task has the unique key, nothing is written, and the returned row gets the
    id of that task.

    Raises:
        AppKitError: When an argument can't be written as JSON, or a key is too long.
    """
    row = task_row(policy, args, kwargs or {}, labels)
    session.add(row)
    if not event.contains(session.sync_session, "before_flush", _write):
        event.listen(session.sync_session, "before_flush", _write)
    notify_on_commit(session)
    return row


async def add_tasks(
    session: AsyncSession, policy: TaskPolicy, calls: Collection[tuple[Sequence[Any], Mapping[str, Any]]]
) -> list[OutboxTask]:
    """Write many tasks by one statement. This is much faster than many calls of `add_task`, and has the same errors."""
    rows = [task_row(policy, args, kwargs) for args, kwargs in calls]
    await session.run_sync(_insert, rows)
    notify_on_commit(session)
    return rows


def notify_on_commit(session: AsyncSession) -> None:
    """Wake the worker of this process, and notify other processes, after the session's commit."""
    context = session.info.get("appkit")
    if isinstance(context, AppContext):
        on_commit(session, context.wake)
        if context.notifies and not event.contains(session.sync_session, "before_commit", _notify):
            event.listen(session.sync_session, "before_commit", _notify)


def _notify(session: Session) -> None:
    """Notify other processes. PostgreSQL delivers the notification after the commit."""
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
    """Make a row for a task. The labels of Taskiq's message get the id, user and trace of the current request."""
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
    """The ids of the current request and user, and the trace."""
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
    """The earliest time to run, or None, and whether this time is in the future."""
    delay = policy.delay.total_seconds() if isinstance(policy.delay, timedelta) else policy.delay
    if delay is not None:
        return clock(delay), delay > 0
    return policy.run_at, policy.run_at is not None and policy.run_at > utcnow()


def _write(session: Session, *_: Any) -> None:
    """Write new rows without SQLAlchemy's slower unit of work. One INSERT writes all plain rows."""
    groups: dict[str | None, list[OutboxTask]] = {}
    for row in [row for row in session.new if isinstance(row, OutboxTask)]:
        session.expunge(row)
        plain = row.unique_key is None and not isinstance(row.run_at, FunctionElement)
        groups.setdefault(None if plain else row.task_id, []).append(row)
    for task_id, group in groups.items():
        if task_id is None:
            values = [_values(row) for row in group]
            session.connection().execute(_INSERT, values if len(values) > 1 else values[0])
        else:
            _insert(session, group)


def _insert(session: Session, rows: Sequence[OutboxTask]) -> None:
    """Write rows with the same `run_at`. A row whose unique key is taken gets the id of the task with this key."""
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
        # Other rows remain if the task with their key has ended between the two statements: insert them again.


def insert_missing(session: Session, table: type[Base], key: str, **values: Any) -> Any:
    """An INSERT that writes nothing if another row has the same value in the column `key`."""
    statement = INSERTS[session.get_bind().dialect.name](Base.metadata.tables[table.__tablename__])
    statement = statement.on_conflict_do_nothing(index_elements=[key])
    return statement.values(values) if values else statement


def _values(row: OutboxTask) -> dict[str, Any]:
    columns = OutboxTask.__table__.c
    given = {name: value for name, value in vars(row).items() if name in columns}
    return {name: value for name, value in given.items() if not isinstance(value, FunctionElement)}
