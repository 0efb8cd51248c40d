"""TaskQueue: a worker's queries on the outbox, which claim, renew and settle tasks.

Only the worker with the latest claim may change a row. The row's count of attempts is the fencing token.
"""

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from secrets import token_hex
from time import monotonic
from typing import Any, NamedTuple, cast

from sqlalchemy import ARRAY, CursorResult, Text, bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.core.settings import TasksSettings
from appkit.exceptions import ServiceUnavailableException
from appkit.repository.database import Database
from appkit.repository.outbox import CHANNEL, OPEN, TaskState, clock
from appkit.repository.queue_statements import (
    BLOCKED,
    KEY,
    KNOWN,
    WAITING,
    ClaimedTask,
    Finished,
    WorkerStatements,
    ended,
    in_state,
    ready,
    rescheduled,
    rows,
    unless_cancelled,
)


class PublishedTask(NamedTuple):
    """A task to publish to a message broker."""

    task_id: str
    task_name: str
    queue: str


class TaskQueue:
    """The outbox as one worker uses it. `owner` is the lease owner; its default is a name that no other worker has."""

    def __init__(self, database: Database, settings: TasksSettings, owner: str | None = None) -> None:
        self._database = database
        self._settings = settings
        self._next_notify = 0.0
        self.owner = owner or f"{socket.gethostname()[:32]}:{os.getpid()}:{token_hex(4)}"
        self._statements = WorkerStatements(settings, self.owner)

    async def claim(self, names: Collection[str], *, limit: int = 1, task_id: str | None = None) -> list[ClaimedTask]:
        """Claim the first tasks that may run, or only the task with this id. Each claim counts as an attempt."""
        async with self._database.session() as session:
            if task_id is None:
                return await self._claim(session, names, limit)
            this = select(rows.c.id).where(WAITING, KNOWN, rows.c.task_id == task_id)
            statement = self._statements.claim(this.with_for_update(skip_locked=True))
            return [ClaimedTask(*row) for row in await session.execute(statement, {"names": [*names]})]

    async def exchange(
        self, done: Sequence[Finished], names: Collection[str], *, room: Callable[[], int]
    ) -> tuple[set[tuple[int, int]], list[ClaimedTask]]:
        """Mark tasks as done, and claim tasks with these names.

        `room` returns the number of tasks to claim. It is called after the transaction has begun, because more tasks
        may have ended by then. The result has the keys of the done tasks that this worker still owned, and the claimed
        tasks.
        """
        if done and not self._database.sqlite:
            return await self._exchange_at_once(done, names, room)
        async with self._database.session() as session:
            await session.connection()
            finished = await self._finish(session, done) if done else set()
            limit = room()
            claimed = await self._claim(session, names, limit) if limit > 0 else []
            if claimed and len(claimed) == limit:
                await self._notify(session)
            return finished, claimed

    async def publish(self, names: Collection[str], limit: int) -> list[PublishedTask]:
        """Mark the first pending tasks as published and return them. A published task can still be claimed."""
        statement = (
            update(rows)
            .where(rows.c.id.in_(ready(in_state(TaskState.PENDING), self._settings)))
            .values(state=TaskState.PUBLISHED)
            .returning(rows.c.rank, rows.c.id, rows.c.task_id, rows.c.task_name, rows.c.queue)
        )
        async with self._database.session() as session:
            published = await session.execute(statement, {"names": [*names], "limit": limit})
            return [PublishedTask(*row[2:]) for row in sorted(published, key=lambda row: (row.rank, row.id))]

    async def unpublish(self, task_ids: Collection[str]) -> None:
        """Make published tasks pending again, unless they have been claimed."""
        published = in_state(TaskState.PUBLISHED) & rows.c.task_id.in_(task_ids)
        async with self._database.session() as session:
            await session.execute(update(rows).where(published).values(state=TaskState.PENDING))

    async def renew(self, tasks: Collection[ClaimedTask]) -> dict[tuple[int, int], bool]:
        """Renew the leases of the tasks that this worker still owns. Returns whether each of them must be cancelled."""
        keys = [task.key for task in tasks]
        statement = (
            update(rows)
            .where(KEY.in_(keys), self._statements.owned)
            .values(leased_until=clock(self._settings.lease))
            .returning(rows.c.id, rows.c.attempts, rows.c.cancel_requested)
        )
        async with self._database.session() as session:
            return {(row.id, row.attempts): row.cancel_requested for row in await session.execute(statement)}

    async def finish(self, task: ClaimedTask, session: AsyncSession | None = None, *, result: Any = None) -> bool:
        """Mark a task as done, in the session's transaction or in a new one. False if the lease was lost."""
        if session is None:
            async with self._database.session() as own:
                return await self.finish(task, own, result=result)
        row = {"row": task.id, "attempt": task.attempts, "returned": result}
        finished = await session.execute(self._statements.finish_one, row)
        return cast("CursorResult[Any]", finished).rowcount == 1

    async def fail(
        self, task: ClaimedTask, error: str, *, retry_in: float | None, code: str | None = None, counts: bool = True
    ) -> bool:
        """Record a failed attempt, and schedule the next one in `retry_in` seconds. False if the lease was lost.

        If `retry_in` is None, the task is dead. Without `counts`, the failure doesn't count as an attempt.
        """
        if retry_in is None:
            values = ended(TaskState.DEAD, self._settings)
        else:
            values = unless_cancelled(rescheduled(retry_in), self._settings)
        values |= {"last_error": error, "error_code": code}
        if not counts:
            values["attempts"] = rows.c.attempts - 1
        return await self._change(task, values)

    async def cancel_claimed(self, task: ClaimedTask, reason: str, code: str) -> bool:
        """Mark a running task as cancelled. False if the lease was lost."""
        values = {"last_error": reason, "error_code": code, **ended(TaskState.CANCELLED, self._settings)}
        return await self._change(task, values)

    async def cancel(self, task_id: str, session: AsyncSession | None = None) -> bool:
        """Cancel a task; request the cancellation of a running task. False if the task has ended or doesn't exist."""
        if session is None:
            async with self._database.session() as own:
                return await self.cancel(task_id, own)
        this = rows.c.task_id == task_id
        waits = text(OPEN) & (rows.c.state != TaskState.RUNNING)
        cancel = update(rows).where(this, waits).values(ended(TaskState.CANCELLED, self._settings))
        request = update(rows).where(this, in_state(TaskState.RUNNING)).values(cancel_requested=True)
        for statement in (cancel, request):
            if (await session.execute(statement.returning(rows.c.id))).first() is not None:
                return True
        return False

    async def report_progress(self, task: ClaimedTask, progress: Mapping[str, Any]) -> bool:
        """Write a task's progress. False if the lease was lost."""
        return await self._change(task, {"progress": dict(progress)})

    async def release(self) -> None:
        """Undo all claims of this worker, so that they don't count as attempts."""
        values = unless_cancelled(rescheduled(0), self._settings) | {"attempts": rows.c.attempts - 1}
        async with self._database.session() as session:
            await session.execute(update(rows).where(self._statements.owned).values(values))

    async def requeue(self, task_id: str, delay: float = 0) -> bool:
        """Reschedule a running task, to run in `delay` seconds. False when no task with this id runs."""
        running = (rows.c.task_id == task_id) & in_state(TaskState.RUNNING)
        statement = update(rows).where(running).values(unless_cancelled(rescheduled(delay), self._settings))
        async with self._database.session() as session:
            return (await session.execute(statement.returning(rows.c.id))).first() is not None

    async def _claim(self, session: AsyncSession, names: Collection[str], limit: int) -> list[ClaimedTask]:
        found = await session.execute(self._statements.claim_ready, {"names": [*names], "limit": limit})
        claimed = [ClaimedTask(*row) for row in found]
        ordered = [task for task in claimed if task.ordering_key is not None]
        if ordered and not self._database.sqlite:
            released = await self._release_blocked(session, ordered)
            claimed = [task for task in claimed if task.id not in released]
        return sorted(claimed, key=lambda task: (task.rank, task.id))

    async def _notify(self, session: AsyncSession) -> None:
        """Notify other workers, because some due tasks may be unclaimed. Once per poll interval is enough."""
        if self._database.sqlite or self._settings.notify == "off" or monotonic() < self._next_notify:
            return
        self._next_notify = monotonic() + self._settings.poll_interval
        await session.execute(select(func.pg_notify(CHANNEL, "")))

    async def _release_blocked(self, session: AsyncSession, ordered: Collection[ClaimedTask]) -> set[int]:
        """Undo the claim of each task that must wait for another task with the same ordering key; returns the ids.

        The claim doesn't see other transactions that commit while it runs. Such a transaction may have written an older
        task with the same key, or claimed one.
        """
        keys = select(func.unnest(bindparam("keys", [task.ordering_key for task in ordered], ARRAY(Text))).label("key"))
        key = keys.subquery().c.key
        free = select(key).where(func.pg_try_advisory_xact_lock(func.hashtextextended(key, 0)))
        locked = set(await session.scalars(free))
        blocked = select(rows.c.id).where(rows.c.id.in_([task.id for task in ordered]), BLOCKED)
        released = {task.id for task in ordered if task.ordering_key not in locked} | {*await session.scalars(blocked)}
        if released:
            values = {"attempts": rows.c.attempts - 1, **rescheduled(0)}
            await session.execute(update(rows).where(rows.c.id.in_(released)).values(values))
        return released

    async def _exchange_at_once(
        self, done: Sequence[Finished], names: Collection[str], room: Callable[[], int]
    ) -> tuple[set[tuple[int, int]], list[ClaimedTask]]:
        """Finish and claim by one autocommitted statement, which needs one round trip instead of four.

        This statement doesn't claim tasks with an ordering key, because it can't lock the keys. A second statement
        claims them, if there is room left.
        """
        async with self._database.session() as session:
            await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            limit = max(0, room())
            values = {"keys": [each.task.key for each in done], "names": [*names], "limit": limit}
            found = await session.execute(self._statements.finish_and_claim(done), values)
            changed = [ClaimedTask(*row) for row in found]
            claimed = sorted((task for task in changed if task.task_id), key=lambda task: (task.rank, task.id))
        with suppress(ServiceUnavailableException):  # The statement above is committed, even if this fails.
            if len(claimed) < limit:
                claimed += await self.claim(names, limit=limit - len(claimed))
            elif claimed:
                async with self._database.session() as session:
                    await self._notify(session)
        return {task.key for task in changed if not task.task_id}, claimed

    async def _finish(self, session: AsyncSession, done: Sequence[Finished]) -> set[tuple[int, int]]:
        keys = [each.task.key for each in done]
        finished = await session.execute(self._statements.finish(done), {"keys": keys})
        return {(row.id, row.attempts) for row in finished}

    async def _change(self, task: ClaimedTask, values: Mapping[str, Any]) -> bool:
        statement = update(rows).where(KEY.in_([task.key]), self._statements.owned).values(values)
        async with self._database.session() as session:
            return (await session.execute(statement.returning(rows.c.id))).first() is not None
