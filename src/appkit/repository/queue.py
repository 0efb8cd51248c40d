"""TaskQueue: the outbox as workers see it, and how its rows change hands.

Apart from `outbox`, because whoever writes a task needs none of this.
"""

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from secrets import token_hex
from time import monotonic
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    CompoundSelect,
    CursorResult,
    Select,
    Text,
    Update,
    bindparam,
    case,
    func,
    literal,
    null,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningUpdate

from appkit.core.settings import TasksSettings
from appkit.exceptions import ServiceUnavailableException
from appkit.repository.database import Database
from appkit.repository.outbox import CHANNEL, OPEN, TaskState, clock
from appkit.repository.rows import (
    BLOCKED,
    KEY,
    KNOWN,
    WAITING,
    again,
    ended,
    in_state,
    ready,
    rows,
    unless_called_off,
)


class ClaimedTask(NamedTuple):
    """A row as it was when it was claimed."""

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
        """Which attempt at which task this is: what may change the row."""
        return self.id, self.attempts


class Announced(NamedTuple):
    """A task that workers are to be told of."""

    task_id: str
    task_name: str
    queue: str


class Finished(NamedTuple):
    """A task that has been done, and what it returned, as JSON has it."""

    task: ClaimedTask
    result: Any = None


class TaskQueue:
    """What workers do with tasks. A change is made only by whoever claimed the task last: attempts are the fence.

    Args:
        database: Where the rows are.
        settings: How long a lease is, how often a task is tried, and how long it is kept.
        owner: What rows say about who has them; unless given, a name that no process had before.
    """

    def __init__(self, database: Database, settings: TasksSettings, owner: str | None = None) -> None:
        self._database = database
        self._settings = settings
        self._next_call = 0.0
        self.owner = owner or f"{socket.gethostname()[:32]}:{os.getpid()}:{token_hex(4)}"

    async def claim(self, names: Collection[str], *, limit: int = 1, task_id: str | None = None) -> list[ClaimedTask]:
        """Take the first tasks that may run, announced or not, or this one; from now on it counts as an attempt."""
        async with self._database.session() as session:
            if task_id is None:
                return await self._claim(session, names, limit)
            this = select(rows.c.id).where(WAITING, KNOWN, rows.c.task_id == task_id)
            found = await session.execute(self._claiming(this.with_for_update(skip_locked=True)), {"names": [*names]})
            return [ClaimedTask(*row) for row in found]

    async def exchange(
        self, done: Sequence[Finished], names: Collection[str], *, room: Callable[[], int]
    ) -> tuple[set[tuple[int, int]], list[ClaimedTask]]:
        """Write what has been done and take what may run next, at once.

        Args:
            done: What has been done.
            names: The tasks that this process knows.
            room: Called when it is this transaction's turn, for there may be more room by then: how many to take.

        Returns:
            The keys of those that were ours to finish, and the tasks that were taken.
        """
        if done and not self._database.sqlite:
            return await self._exchange_at_once(done, names, room)
        async with self._database.session() as session:
            await session.connection()
            finished = await self._finish(session, done) if done else set()
            limit = room()
            claimed = await self._claim(session, names, limit) if limit > 0 else []
            if claimed and len(claimed) == limit:
                await self._call(session)
            return finished, claimed

    async def publish(self, names: Collection[str], limit: int) -> list[Announced]:
        """Mark the first tasks that may run as announced, so that it is done once. They can be claimed as before."""
        statement = (
            update(rows)
            .where(rows.c.id.in_(ready(in_state(TaskState.PENDING), self._settings)))
            .values(state=TaskState.PUBLISHED)
            .returning(rows.c.rank, rows.c.id, rows.c.task_id, rows.c.task_name, rows.c.queue)
        )
        async with self._database.session() as session:
            published = await session.execute(statement, {"names": [*names], "limit": limit})
            return [Announced(*row[2:]) for row in sorted(published, key=lambda row: (row.rank, row.id))]

    async def unpublish(self, task_ids: Collection[str]) -> None:
        """Take back that these were announced, unless somebody has claimed them already."""
        announced = in_state(TaskState.PUBLISHED) & rows.c.task_id.in_(task_ids)
        async with self._database.session() as session:
            await session.execute(update(rows).where(announced).values(state=TaskState.PENDING))

    async def renew(self, tasks: Collection[ClaimedTask]) -> dict[tuple[int, int], bool]:
        """Hold these tasks for another lease; returns the keys of those that are ours still, and who is called off."""
        statement = (
            update(rows)
            .where(_one_of(tasks), self._ours)
            .values(leased_until=clock(self._settings.lease))
            .returning(rows.c.id, rows.c.attempts, rows.c.cancel_requested)
        )
        async with self._database.session() as session:
            return {(row.id, row.attempts): row.cancel_requested for row in await session.execute(statement)}

    async def finish(self, task: ClaimedTask, session: AsyncSession | None = None, *, result: Any = None) -> bool:
        """Write that it is done, in this transaction or one of its own; False when somebody else has it by now."""
        if session is None:
            async with self._database.session() as own:
                return await self.finish(task, own, result=result)
        row = {"row": task.id, "attempt": task.attempts, "returned": result}
        return cast("CursorResult[Any]", await session.execute(self._finish_one, row)).rowcount == 1

    async def fail(
        self, task: ClaimedTask, error: str, *, retry_in: float | None, code: str | None = None, counts: bool = True
    ) -> bool:
        """Write what went wrong, and when to try again. False when somebody else has it by now.

        Args:
            task: Whose attempt it was.
            error: What went wrong.
            retry_in: Seconds until the next attempt; None means never.
            code: What programs know the error by.
            counts: Whether this has been an attempt.
        """
        what = (
            ended(TaskState.DEAD, self._settings)
            if retry_in is None
            else unless_called_off(again(retry_in), self._settings)
        )
        outcome = {"last_error": error, "error_code": code, **what}
        if not counts:
            outcome["attempts"] = rows.c.attempts - 1
        return await self._change(task, outcome)

    async def drop(self, task: ClaimedTask, reason: str, code: str) -> bool:
        """Write that it was called off while it ran. False when somebody else has it by now."""
        values = {"last_error": reason, "error_code": code, **ended(TaskState.CANCELLED, self._settings)}
        return await self._change(task, values)

    async def cancel(self, task_id: str, session: AsyncSession | None = None) -> bool:
        """Call a task off, in this transaction or one of its own: it never starts or, if it runs, is told to stop.

        Returns:
            False when it has ended or isn't there.
        """
        if session is None:
            async with self._database.session() as own:
                return await self.cancel(task_id, own)
        this = rows.c.task_id == task_id
        waits = text(OPEN) & (rows.c.state != TaskState.RUNNING)
        drop = update(rows).where(this, waits).values(ended(TaskState.CANCELLED, self._settings))
        ask = update(rows).where(this, in_state(TaskState.RUNNING)).values(cancel_requested=True)
        for statement in (drop, ask):
            if (await session.execute(statement.returning(rows.c.id))).first() is not None:
                return True
        return False

    async def report(self, task: ClaimedTask, progress: Mapping[str, Any]) -> bool:
        """Write how far it has come; False when somebody else has it by now."""
        return await self._change(task, {"progress": dict(progress)})

    async def release(self) -> None:
        """Give back whatever this process has, as if it had never been claimed."""
        values = unless_called_off(again(0), self._settings) | {"attempts": rows.c.attempts - 1}
        async with self._database.session() as session:
            await session.execute(update(rows).where(self._ours).values(values))

    async def requeue(self, task_id: str, delay: float = 0) -> bool:
        """Make a running task pending again, or later; False when none with this id runs."""
        running = (rows.c.task_id == task_id) & in_state(TaskState.RUNNING)
        statement = update(rows).where(running).values(unless_called_off(again(delay), self._settings))
        async with self._database.session() as session:
            return (await session.execute(statement.returning(rows.c.id))).first() is not None

    @property
    def _ours(self) -> ColumnElement[bool]:
        return (rows.c.lease_owner == self.owner) & in_state(TaskState.RUNNING)

    # What is asked for each few tasks is put together once.

    @cached_property
    def _claim_first(self) -> ReturningUpdate[Any]:
        return self._claiming(ready(WAITING, self._settings))

    @cached_property
    def _claim_free(self) -> ReturningUpdate[Any]:
        return self._claim_first.where(rows.c.ordering_key.is_(None))

    def _claiming(self, ids: Select[int]) -> ReturningUpdate[Any]:
        until_start = rows.c.unique_scope == "until_start"
        return (
            update(rows)
            .where(rows.c.id.in_(ids))
            .values(
                state=TaskState.RUNNING,
                attempts=rows.c.attempts + 1,
                lease_owner=self.owner,
                leased_until=clock(self._settings.lease),
                started_at=clock(0),
                unique_key=case((until_start, null()), else_=rows.c.unique_key),
            )
            .returning(*(rows.c[field] for field in ClaimedTask._fields))
        )

    def _both(self, done: Sequence[Finished]) -> CompoundSelect[Any]:
        if all(each.result is None for each in done):
            return self._both_without_results
        return self._at_once(self._finishing(done))

    @cached_property
    def _both_without_results(self) -> CompoundSelect[Any]:
        return self._at_once(self._finish_all)

    def _at_once(self, finish: ReturningUpdate[Any]) -> CompoundSelect[Any]:
        claimed, finished = self._claim_free.cte("claimed"), finish.cte("finished")
        nothing = [null() for _ in ClaimedTask._fields[2:]]
        return select(claimed).union_all(select(finished.c.id, finished.c.attempts, *nothing))

    @cached_property
    def _finish_one(self) -> Update:
        mine = update(rows).where(rows.c.id == bindparam("row"), rows.c.attempts == bindparam("attempt"), self._ours)
        return mine.values(result=bindparam("returned", type_=rows.c.result.type), **self._done)

    @cached_property
    def _finish_all(self) -> ReturningUpdate[Any]:
        mine = update(rows).where(KEY.in_(bindparam("keys", expanding=True)), self._ours)
        return mine.values(self._done).returning(rows.c.id, rows.c.attempts)

    async def _claim(self, session: AsyncSession, names: Collection[str], limit: int) -> list[ClaimedTask]:
        found = await session.execute(self._claim_first, {"names": [*names], "limit": limit})
        claimed = [ClaimedTask(*row) for row in found]
        if not self._database.sqlite and any(task.ordering_key is not None for task in claimed):
            refused = await self._refuse(session, [task for task in claimed if task.ordering_key is not None])
            claimed = [task for task in claimed if task.id not in refused]
        return sorted(claimed, key=lambda task: (task.rank, task.id))

    async def _call(self, session: AsyncSession) -> None:
        """Tell others, now and then, that there may be more than this process has room for."""
        if self._database.sqlite or self._settings.notify == "off" or monotonic() < self._next_call:
            return
        self._next_call = monotonic() + self._settings.poll_interval
        await session.execute(select(func.pg_notify(CHANNEL, "")))

    async def _refuse(self, session: AsyncSession, ordered: Collection[ClaimedTask]) -> set[int]:
        """Give back tasks whose key another one has that began in this moment; returns their ids.

        Where two transactions wrote tasks with one key, the older one may appear when the younger one has been claimed
        and nobody sees that yet.
        """
        keys = select(func.unnest(bindparam("keys", [task.ordering_key for task in ordered], ARRAY(Text))).label("key"))
        key = keys.subquery().c.key
        free = select(key).where(func.pg_try_advisory_xact_lock(func.hashtextextended(key, 0)))
        mine = set(await session.scalars(free))
        blocked = select(rows.c.id).where(rows.c.id.in_([task.id for task in ordered]), BLOCKED)
        refused = {task.id for task in ordered if task.ordering_key not in mine} | {*await session.scalars(blocked)}
        if refused:
            back = update(rows).where(rows.c.id.in_(refused)).values(attempts=rows.c.attempts - 1, **again(0))
            await session.execute(back)
        return refused

    @property
    def _done(self) -> dict[str, Any]:
        return {"last_error": null(), "error_code": null(), **ended(TaskState.DONE, self._settings)}

    async def _exchange_at_once(
        self, done: Sequence[Finished], names: Collection[str], room: Callable[[], int]
    ) -> tuple[set[tuple[int, int]], list[ClaimedTask]]:
        """Exchange by one statement that commits itself: one round trip rather than four.

        It can't be sure of an ordering key, so that tasks with one are claimed after it, where it left room for them.
        """
        async with self._database.session() as session:
            await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            limit = max(0, room())
            keys = [each.task.key for each in done]
            found = await session.execute(self._both(done), {"keys": keys, "names": [*names], "limit": limit})
            changed = [ClaimedTask(*row) for row in found]
            claimed = sorted((task for task in changed if task.task_id), key=lambda task: (task.rank, task.id))
        with suppress(ServiceUnavailableException):  # What has changed has, whatever comes of this.
            if len(claimed) < limit:
                claimed += await self.claim(names, limit=limit - len(claimed))
            elif claimed:
                async with self._database.session() as session:
                    await self._call(session)
        return {task.key for task in changed if not task.task_id}, claimed

    async def _finish(self, session: AsyncSession, done: Sequence[Finished]) -> set[tuple[int, int]]:
        finished = await session.execute(self._finishing(done), {"keys": [each.task.key for each in done]})
        return {(row.id, row.attempts) for row in finished}

    def _finishing(self, done: Sequence[Finished]) -> ReturningUpdate[Any]:
        statement = self._finish_all
        if results := {each.task.id: each.result for each in done if each.result is not None}:
            kind = rows.c.result.type
            whens = [(rows.c.id == row, literal(result, kind)) for row, result in results.items()]
            statement = statement.values(result=case(*whens, else_=null()))
        return statement

    async def _change(self, task: ClaimedTask, values: Mapping[str, Any], session: AsyncSession | None = None) -> bool:
        if session is None:
            async with self._database.session() as own:
                return await self._change(task, values, own)
        changed = await session.execute(
            update(rows).where(_one_of([task]), self._ours).values(values).returning(rows.c.id)
        )
        return changed.first() is not None


def _one_of(tasks: Collection[ClaimedTask]) -> ColumnElement[bool]:
    return KEY.in_([task.key for task in tasks])
