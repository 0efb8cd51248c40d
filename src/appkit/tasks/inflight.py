"""InFlightTasks: the tasks that this process has claimed and not yet settled.

An exchange writes all tasks that are done and claims the next tasks, in one transaction if possible.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from taskiq.exceptions import NoResultError

from appkit.core.settings import Settings
from appkit.exceptions import ServiceUnavailableException
from appkit.repository.database import Database
from appkit.repository.queue import TaskQueue
from appkit.repository.queue_statements import ClaimedTask, Finished
from appkit.tasks.context import Attempt, LeaseLostError
from appkit.tasks.heartbeat import Heartbeat
from appkit.tasks.outcomes import TaskSignal

STEPS: Final = 10
"""Steps of the event loop to wait after a task ends. Other tasks that end in these steps are written with this task."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class InFlightTasks:
    """The attempts of this process. From the first claim on, a heartbeat renews their leases."""

    queue: TaskQueue
    database: Database
    settings: Settings
    names: Callable[[], Collection[str]]
    """Returns the names of the tasks that this process knows."""
    concurrency: Callable[[], int]
    """Returns how many tasks may be in flight."""
    wake: Callable[[], None]
    """Called when a failed task may run again."""

    def __post_init__(self) -> None:
        self._attempts: dict[tuple[int, int], Attempt] = {}
        self._done: list[Attempt] = []
        self._wanted: asyncio.Future[list[Attempt]] | None = None
        self._exchange: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[None]] = set()
        self._heartbeat: Heartbeat | None = None
        self._stopping = False

    def get(self, key: tuple[int, int]) -> Attempt:
        """The attempt with this key. Raises `LeaseLostError` if the attempt is no longer in flight."""
        try:
            return self._attempts[key]
        except KeyError:
            raise LeaseLostError from None

    def tasks(self) -> list[ClaimedTask]:
        """A snapshot of all tasks in flight. The heartbeat's thread calls this method."""
        return [attempt.task for attempt in self._attempts.copy().values()]

    async def claim(self, task_name: str, task_id: str) -> list[Attempt]:
        """Claim this task, unless another process has it."""
        return self._add(await self.queue.claim([task_name], task_id=task_id))

    async def claim_next(self) -> list[Attempt]:
        """Claim tasks up to the concurrency."""
        self._wanted = asyncio.get_running_loop().create_future()
        self._start_exchange()
        return await self._wanted

    def begin(self, attempt: Attempt) -> None:
        """Bind the attempt to the calling asyncio task, and make it the current attempt of that asyncio task."""
        runner = attempt.start()
        runner.add_done_callback(partial(self._on_end, attempt, copy_context()))

    async def settle(self, attempt: Attempt, error: BaseException | None) -> None:
        """Write the outcome of a failed attempt. The next exchange writes successes. A failed write is logged."""
        if attempt.settled:
            return
        attempt.closing, attempt.error = True, error
        try:
            if attempt.session is not None:
                await attempt.session.aclose()
            if error is None or (isinstance(error, NoResultError) and not isinstance(error, TaskSignal)):
                attempt.done = True
                self._done.append(attempt)
                self._start_exchange()
                return
            if self._stopping and isinstance(error, asyncio.CancelledError):
                return  # `stop()` releases this lease with all others.
            if not await self._persist(attempt, error):
                _warn_lost(attempt)
        except Exception:
            logger.exception("%s could not be settled. The task runs again when its lease has expired.", attempt)
        finally:
            attempt.settled = True
            self._remove(attempt)

    async def flush(self) -> None:
        """Wait until all tasks that are done have been written."""
        if self._exchange is not None:
            await asyncio.wait([self._exchange])

    def forget_unstarted(self) -> None:
        """Forget claimed tasks that have not started. `stop()` or the end of the lease makes these tasks pending."""
        self._attempts = {key: attempt for key, attempt in self._attempts.items() if attempt.runner is not None}

    def request_cancel(self, tasks: Collection[ClaimedTask]) -> None:
        """Cancel these tasks at a user's request."""
        for task in tasks:
            if attempt := self._attempts.get(task.key):
                attempt.cancel_requested = True
        self._cancel(tasks)

    async def stop(self, patience: float = 5.0) -> None:
        """Cancel the tasks that still run, wait up to `patience` seconds for their end, and release all leases."""
        self._stopping = True
        for attempt in self._attempts.values():
            attempt.interruptible = True  # Also while a plain `def` runs: it goes on in its thread.
            attempt.cancel()
        ending = [each.runner for each in self._attempts.values() if each.runner is not None] + [*self._settling]
        if ending:
            await asyncio.wait(ending, timeout=patience)
        if self._exchange is not None:
            await asyncio.wait([self._exchange], timeout=patience)
        if self._heartbeat is not None:
            try:
                await self.queue.release()
            except Exception:
                logger.exception("Leases could not be released. The tasks run again when their leases have expired.")
            await self._heartbeat.stop()
            self._heartbeat = None

    def _start_exchange(self) -> None:
        if self._exchange is None:
            self._exchange = asyncio.create_task(self._exchange_all(), name="appkit-exchange")

    async def _exchange_all(self) -> None:
        """Write done tasks and claim new ones, until nothing is left to write and no claim is requested."""
        try:
            while self._done or self._wanted is not None:
                await self._gather()
                done, self._done = self._done, []
                wanted, self._wanted = self._wanted, None
                try:
                    claimed = await self._exchange_once(done, claim=wanted is not None)
                except Exception as exc:  # noqa: BLE001 - passed on to the caller of `claim_next`
                    if wanted is not None:
                        wanted.set_exception(exc)
                    await self._finish_each(done, exc)
                else:
                    for attempt in done:
                        self._attempts.pop(attempt.task.key, None)
                    if wanted is not None:
                        wanted.set_result(self._add(claimed))
        finally:
            self._exchange = None

    async def _gather(self) -> None:
        """Wait a few steps for other tasks that end, or until `claim_next` is called."""
        for _ in range(STEPS):
            await asyncio.sleep(0)
            if self._wanted is not None:
                return

    async def _finish_each(self, done: Sequence[Attempt], error: Exception) -> None:
        """Write tasks one by one. Writing all together has failed, but perhaps only because of one task."""
        if isinstance(error, ServiceUnavailableException) and not self._stopping:
            self._done[:0] = done
            await asyncio.sleep(1 if done else 0)
            return
        for attempt in done:
            attempt.settled = attempt.done = False
            try:
                await self.queue.finish(attempt.task, result=attempt.result_json)
            except Exception as exc:  # noqa: BLE001 - recorded as the task's failure
                await self.settle(attempt, exc)
            self._attempts.pop(attempt.task.key, None)

    async def _exchange_once(self, done: Collection[Attempt], *, claim: bool) -> list[ClaimedTask]:
        def room() -> int:
            return max(1, self.concurrency() - len(self._attempts) + len(done)) if claim else 0

        finished, claimed = await self.queue.exchange(
            [Finished(attempt.task, attempt.result_json) for attempt in done], self.names(), room=room
        )
        for attempt in done:
            if attempt.task.key not in finished:
                _warn_lost(attempt)
        return claimed

    def _remove(self, attempt: Attempt) -> None:
        if not attempt.done:
            self._attempts.pop(attempt.task.key, None)

    def _add(self, claimed: Collection[ClaimedTask]) -> list[Attempt]:
        if self._heartbeat is None and claimed:
            loop = asyncio.get_running_loop()
            self._heartbeat = Heartbeat(
                self.database.settings,
                self.settings.tasks,
                self.queue.owner,
                in_flight=self.tasks,
                on_lost=lambda tasks: loop.call_soon_threadsafe(self._cancel, tasks),
                on_cancel=lambda tasks: loop.call_soon_threadsafe(self.request_cancel, tasks),
            )
        attempts = [Attempt(task, self.queue, self.database, self.settings) for task in claimed]
        self._attempts |= {attempt.task.key: attempt for attempt in attempts}
        return attempts

    def _cancel(self, tasks: Collection[ClaimedTask]) -> None:
        for task in tasks:
            if attempt := self._attempts.get(task.key):
                attempt.cancel()

    def _on_end(self, attempt: Attempt, context: Context, runner: asyncio.Task[Any]) -> None:
        """Settle an attempt that `post_execute` didn't settle: it was cancelled, or a teardown or middleware failed."""
        error = asyncio.CancelledError() if runner.cancelled() else runner.exception()
        if attempt.settled:
            self._remove(attempt)
        if error is not None:
            logger.error(
                "%s failed outside the task's function: in a dependency or a middleware, or it was cancelled.",
                attempt,
                exc_info=error,
            )
        if not attempt.settled:
            error = error or RuntimeError("Taskiq returned no result.")
            settling = runner.get_loop().create_task(self.settle(attempt, error), context=context)
            self._settling.add(settling)
            settling.add_done_callback(self._settling.discard)

    async def _persist(self, attempt: Attempt, error: BaseException) -> bool:
        """Write the outcome of a failed attempt, and retry for about a second while the database is unavailable."""
        for pause in (0.1, 1.0):
            try:
                return await self._write_outcome(attempt, error)
            except ServiceUnavailableException:
                await asyncio.sleep(pause)
        return await self._write_outcome(attempt, error)

    async def _write_outcome(self, attempt: Attempt, error: BaseException) -> bool:
        task, outcome = attempt.task, attempt.decide_outcome(error)
        if outcome.cancelled:
            return await self.queue.cancel_claimed(task, outcome.error, outcome.code)
        if not await self.queue.fail(
            task, outcome.error, code=outcome.code, retry_in=outcome.retry_in, counts=outcome.counts
        ):
            return False
        if outcome.retry_in is None:
            logger.error("%s is dead after attempt %d: %s", attempt, task.attempts, outcome.error)
        else:
            level = logging.INFO if isinstance(error, TaskSignal) else logging.WARNING
            logger.log(level, "%s runs again in %.3g s: %s", attempt, outcome.retry_in, outcome.error)
            asyncio.get_running_loop().call_later(outcome.retry_in, self.wake)
        context = self.database.context
        if context is not None and isinstance(error, Exception) and not isinstance(error, TaskSignal):
            await context.plugins.notify("on_exception", exception=error)
        return True


def _warn_lost(attempt: Attempt) -> None:
    logger.warning("%s lost its lease, and its outcome is discarded: another process runs the task.", attempt)
