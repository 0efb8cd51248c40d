"""Rows of the outbox as workers speak of them: which ones a question is about, and what is written to them.

Apart from `queue` and `upkeep`, where the questions are asked.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Table,
    and_,
    bindparam,
    case,
    literal_column,
    null,
    or_,
    select,
    text,
    tuple_,
)

from appkit.core.settings import TasksSettings
from appkit.repository.base import Base
from appkit.repository.outbox import OPEN, OutboxTask, TaskState, clock

rows: Final[Table] = Base.metadata.tables[OutboxTask.__tablename__]
UNLEASED: Final = {"lease_owner": null(), "leased_until": null()}


def in_state(state: TaskState) -> ColumnElement[bool]:
    """Spelt out in the statement, for a parameter might be anything, and SQLite would use no partial index."""
    return rows.c.state == literal_column(f"'{state}'")


KEY: Final = tuple_(rows.c.id, rows.c.attempts)
"""Which attempt at which task: what may change the row."""
KNOWN: Final = rows.c.task_name.in_(bindparam("names", expanding=True))
"""Whether this process knows the task, given the parameter `names`."""
ALIVE: Final = or_(rows.c.expires_at.is_(None), rows.c.expires_at > clock(0))
"""Whether it has not expired."""

WAITING: Final = or_(in_state(TaskState.PENDING), in_state(TaskState.PUBLISHED))
"""Whether it may run, be it announced or not, in the words of its index."""

_expiring = and_(rows.c.expires_at.is_not(None), text(OPEN), rows.c.state != TaskState.RUNNING)
MOMENTS: Final = (
    (rows.c.run_at, in_state(TaskState.SCHEDULED)),
    (rows.c.expires_at, _expiring),
    (rows.c.leased_until, in_state(TaskState.RUNNING)),
)
"""Which columns say when something is to be done, and of which rows."""
DUE, EXPIRED, LOST = (which & (moment <= clock(0)) for moment, which in MOMENTS)
"""Rows of which it is to be done now."""

other: Final = rows.alias("other")
BLOCKED: Final = (
    select(other.c.id)
    .where(other.c.ordering_key == rows.c.ordering_key, other.c.id != rows.c.id, text(f"other.{OPEN}"))
    .where(or_(other.c.id < rows.c.id, other.c.state == literal_column("'running'")))
    .exists()
)
"""Whether another task with the same ordering key goes first, or runs."""


def again(delay: float) -> dict[str, Any]:
    """What is written of a task that is to run again."""
    state = TaskState.SCHEDULED if delay > 0 else TaskState.PENDING
    return {"state": state, "run_at": clock(delay), **UNLEASED}


def ready(state: ColumnElement[bool], settings: TasksSettings, *, lock: bool = True) -> Select[int]:
    """The ids of the first tasks in this state that may run and that no other process is about to take.

    Args:
        state: `WAITING`, or a part of it.
        settings: Which queues it is about.
        lock: Whether they are about to be changed.
    """
    found = select(rows.c.id).where(state, KNOWN, ALIVE).where(or_(rows.c.ordering_key.is_(None), ~BLOCKED))
    if settings.queues:
        found = found.where(rows.c.queue.in_(settings.queues))
    first = found.order_by(rows.c.rank, rows.c.id).limit(bindparam("limit", type_=Integer))
    if not lock:
        return first
    # A common table expression, for PostgreSQL may run a plain subquery several times, and lock more each time.
    return select(first.with_for_update(of=rows, skip_locked=True).cte("first").c.id)


def ended(state: TaskState, settings: TasksSettings) -> dict[str, Any]:
    """What is written whenever a task ends."""
    return {
        "state": state,
        "finished_at": clock(0),
        "keep_until": clock(settings.keep_done if state == TaskState.DONE else settings.keep_dead),
        "unique_key": case((rows.c.unique_scope == "retained", rows.c.unique_key), else_=null()),
        **UNLEASED,
    }


def unless_called_off(values: Mapping[str, Any], settings: TasksSettings) -> dict[str, Any]:
    """These changes, or, of a task that somebody called off meanwhile, its end."""
    return either(rows.c.cancel_requested, ended(TaskState.CANCELLED, settings), values)


def either(condition: ColumnElement[bool], these: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """The first changes where the condition holds, and the others where it doesn't."""
    pairs = {name: (these.get(name, rows.c[name]), others.get(name, rows.c[name])) for name in {**these, **others}}
    return {
        name: one if one is other else case((condition, one), else_=other)  # Of two NULLs, nobody knows the type.
        for name, (one, other) in pairs.items()
    }
