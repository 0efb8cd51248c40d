"""SQL of the task queue: conditions on rows of the outbox, values for these rows, and statements of a worker."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    case,
    literal,
    literal_column,
    null,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from appkit.core.settings import TasksSettings
from appkit.repository.base import Base
from appkit.repository.outbox import OPEN, OutboxTask, TaskState, clock

rows: Final[Table] = Base.metadata.tables[OutboxTask.__tablename__]
NO_LEASE: Final = {"lease_owner": null(), "leased_until": null()}


def in_state(state: TaskState) -> ColumnElement[bool]:
    """Whether a row has this state, as a literal: SQLite uses a partial index only for the text of its condition."""
    return rows.c.state == literal_column(f"'{state}'")


KEY: Final = tuple_(rows.c.id, rows.c.attempts)
"""Identifies one attempt. Only the worker that made this attempt may change the row."""
KNOWN: Final = rows.c.task_name.in_(bindparam("names", expanding=True))
"""Whether the task has one of the names in the parameter `names`."""
ALIVE: Final = or_(rows.c.expires_at.is_(None), rows.c.expires_at > clock(0))
"""Whether the task has not expired."""

WAITING: Final = or_(in_state(TaskState.PENDING), in_state(TaskState.PUBLISHED))
"""Whether the task is pending or published. An index has the same condition."""

_other: Final = rows.alias("other")
BLOCKED: Final = (
    select(_other.c.id)
    .where(_other.c.ordering_key == rows.c.ordering_key, _other.c.id != rows.c.id, text(f"other.{OPEN}"))
    .where(or_(_other.c.id < rows.c.id, _other.c.state == literal_column("'running'")))
    .exists()
)
"""Whether an older task with the same ordering key is open, or another task with that key is running."""

_expiring = and_(rows.c.expires_at.is_not(None), text(OPEN), rows.c.state != TaskState.RUNNING)
DEADLINES: Final = (
    (rows.c.run_at, in_state(TaskState.SCHEDULED)),
    (rows.c.expires_at, _expiring),
    (rows.c.leased_until, in_state(TaskState.RUNNING)),
)
"""Columns with the time when maintenance must change a row. Each has the condition for its rows."""
DUE, EXPIRED, LEASE_EXPIRED = (which & (deadline <= clock(0)) for deadline, which in DEADLINES)
"""Rows whose deadline has passed."""


def ready(state: ColumnElement[bool], settings: TasksSettings, *, lock: bool = True) -> Select[int]:
    """Ids of the first tasks that may run. `state` is `WAITING` or a part of it.

    With `lock`, the rows are locked, and rows that another process has locked are skipped.
    """
    found = select(rows.c.id).where(state, KNOWN, ALIVE).where(or_(rows.c.ordering_key.is_(None), ~BLOCKED))
    if settings.queues:
        found = found.where(rows.c.queue.in_(settings.queues))
    first = found.order_by(rows.c.rank, rows.c.id).limit(bindparam("limit", type_=Integer))
    if not lock:
        return first
    # PostgreSQL may run a plain subquery several times and lock more rows each time. A CTE runs once.
    return select(first.with_for_update(of=rows, skip_locked=True).cte("first").c.id)


def rescheduled(delay: float) -> dict[str, Any]:
    """Values of a task that runs again after `delay` seconds."""
    state = TaskState.SCHEDULED if delay > 0 else TaskState.PENDING
    return {"state": state, "run_at": clock(delay), **NO_LEASE}


def ended(state: TaskState, settings: TasksSettings) -> dict[str, Any]:
    """Values of a task that ends in this state."""
    return {
        "state": state,
        "finished_at": clock(0),
        "keep_until": clock(settings.keep_done if state == TaskState.DONE else settings.keep_dead),
        "unique_key": case((rows.c.unique_scope == "retained", rows.c.unique_key), else_=null()),
        **NO_LEASE,
    }


def unless_cancelled(values: Mapping[str, Any], settings: TasksSettings) -> dict[str, Any]:
    """These values; if cancellation was requested, the values of a cancelled task."""
    return either(rows.c.cancel_requested, ended(TaskState.CANCELLED, settings), values)


def either(condition: ColumnElement[bool], these: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """`these` values for rows that meet the condition, and the `others` for all other rows."""
    pairs = {name: (these.get(name, rows.c[name]), others.get(name, rows.c[name])) for name in {**these, **others}}
    return {
        name: one if one is other else case((condition, one), else_=other)  # CASE over two NULLs is untyped.
        for name, (one, other) in pairs.items()
    }


class ClaimedTask(NamedTuple):
    """A row at the time of its claim."""

    id: int
    attempts: int
    task_id: str
    task_name: str
    rank: int
    payload: dict[str, Any]
    max_attempts: int | None
    ordering_key: str | None

    @property
    def key(self) -> tuple[int, int]:
        """Identifies this attempt, as `KEY` does in SQL."""
        return self.id, self.attempts


class Finished(NamedTuple):
    """A done task and its result as JSON."""

    task: ClaimedTask
    result: Any = None


class WorkerStatements:
    """Statements that claim and finish rows for one lease owner. Most of them are built only once."""

    def __init__(self, settings: TasksSettings, owner: str) -> None:
        self._settings = settings
        self.owned: ColumnElement[bool] = (rows.c.lease_owner == owner) & in_state(TaskState.RUNNING)
        """Running rows of this owner."""
        self._owner = owner
        self._done = {"last_error": null(), "error_code": null(), **ended(TaskState.DONE, settings)}

    @cached_property
    def claim_ready(self) -> ReturningUpdate[Any]:
        """Claims the first tasks that may run. Parameters: `names` and `limit`."""
        return self.claim(ready(WAITING, self._settings))

    def claim(self, ids: Select[int]) -> ReturningUpdate[Any]:
        """Claims the rows with these ids."""
        until_start = rows.c.unique_scope == "until_start"
        return (
            update(rows)
            .where(rows.c.id.in_(ids))
            .values(
                state=TaskState.RUNNING,
                attempts=rows.c.attempts + 1,
                lease_owner=self._owner,
                leased_until=clock(self._settings.lease),
                started_at=clock(0),
                unique_key=case((until_start, null()), else_=rows.c.unique_key),
            )
            .returning(*(rows.c[field] for field in ClaimedTask._fields))
        )

    def finish(self, done: Sequence[Finished]) -> ReturningUpdate[Any]:
        """Marks tasks as done. Parameter: `keys`."""
        results = {each.task.id: each.result for each in done if each.result is not None}
        if not results:
            return self._finish_without_results
        kind = rows.c.result.type
        whens = [(rows.c.id == row, literal(result, kind)) for row, result in results.items()]
        return self._finish_without_results.values(result=case(*whens, else_=null()))

    def finish_and_claim(self, done: Sequence[Finished]) -> CompoundSelect[Any]:
        """Marks tasks as done, and claims tasks without an ordering key. Parameters: `keys`, `names` and `limit`.

        It returns the rows of both kinds. The row of a done task has only `id` and `attempts`.
        """
        if all(each.result is None for each in done):
            return self._finish_and_claim_without_results
        return self._with_claim(self.finish(done))

    @cached_property
    def finish_one(self) -> Update:
        """Marks one task as done. Parameters: `row`, `attempt` and `returned`."""
        mine = update(rows).where(rows.c.id == bindparam("row"), rows.c.attempts == bindparam("attempt"), self.owned)
        return mine.values(result=bindparam("returned", type_=rows.c.result.type), **self._done)

    @cached_property
    def _finish_without_results(self) -> ReturningUpdate[Any]:
        mine = update(rows).where(KEY.in_(bindparam("keys", expanding=True)), self.owned)
        return mine.values(self._done).returning(rows.c.id, rows.c.attempts)

    @cached_property
    def _finish_and_claim_without_results(self) -> CompoundSelect[Any]:
        return self._with_claim(self._finish_without_results)

    @cached_property
    def _claim_unordered(self) -> ReturningUpdate[Any]:
        return self.claim_ready.where(rows.c.ordering_key.is_(None))

    def _with_claim(self, finish: ReturningUpdate[Any]) -> CompoundSelect[Any]:
        claimed, finished = self._claim_unordered.cte("claimed"), finish.cte("finished")
        nothing = [null() for _ in ClaimedTask._fields[2:]]
        return select(claimed).union_all(select(finished.c.id, finished.c.attempts, *nothing))
