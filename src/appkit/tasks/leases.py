"""Leases: the tasks that this process has, from the claim of a row until the row says how it ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from taskiq.exceptions import NoResultError

from appkit.exceptions import ServiceUnavailableException
from appkit.repository.base import utcnow
from appkit.repository.queue import ClaimedTask, Finished
from appkit.tasks.heartbeat import Heartbeat
from appkit.tasks.lease import Lease, LeaseLostError, current
from appkit.tasks.outcomes import Wish

if TYPE_CHECKING:
    from appkit.tasks.broker import OutboxBroker

T = TypeVar("T")

STEPS: Final = 10
"""Steps of the event loop, or more, from the end of a task to the claim of the next."""

logger = logging.getLogger(__name__)


class Leases:
    """All that one broker has at the moment, renewed by a heartbeat from the first claim on.

    What has been done is written with the next claim, many tasks in one transaction; until then it counts as running.
    """

    def __init__(self, broker: "OutboxBroker") -> None:
        self._broker = broker
        self._held: dict[tuple[int, int], Lease] = {}
        self._done: list[Lease] = []
        self._wanted: asyncio.Future[list[Lease]] | None = None
        self._exchange: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[None]] = set()
        self._heartbeat: Heartbeat | None = None
        self._stopping = False

    def __len__(self) -> int:
        return len(self._held)

    @property
    def ids(self) -> list[int]:
        """The rows' ids."""
        return [row for row, _ in self._held]

    def get(self, key: tuple[int, int]) -> Lease:
        """The lease for this attempt.

        Raises:
            LeaseLostError: When it has been given up.
        """
        try:
            return self._held[key]
        except KeyError:
            raise LeaseLostError from None

    async def claim(self, task_name: str, task_id: str) -> list[Lease]:
        """Claim this task, unless somebody has it."""
        return self._keep(await self._broker.queue.claim([task_name], task_id=task_id))

    async def take(self) -> list[Lease]:
        """Claim as many tasks as there is room for."""
        self._wanted = asyncio.get_running_loop().create_future()
        self._write()
        return await self._wanted

    def begin(self, lease: Lease) -> None:
        """Let the lease live as long as the asyncio task that calls this, in whose context the attempt runs."""
        runner = lease.runner = asyncio.current_task()
        assert runner is not None  # noqa: S101 - Taskiq calls this from a coroutine
        lease.began = utcnow()
        current.set(lease)
        runner.add_done_callback(partial(self._ended, lease, copy_context()))

    async def settle(self, lease: Lease, error: BaseException | None) -> None:
        """See that the row will say how the attempt ended; never raises, for there is nobody left to tell."""
        if lease.settled:
            return
        lease.closing, lease.error = True, error
        try:
            if lease.session is not None:
                await lease.session.aclose()
            if error is None or (isinstance(error, NoResultError) and not isinstance(error, Wish)):
                lease.done = True
                self._done.append(lease)
                self._write()
                return
            if self._stopping and isinstance(error, asyncio.CancelledError):
                return  # It is given back with everything else.
            if not await self._persist(lambda: self._close(lease, error)):
                logger.warning("%s was given to another process, for this one seemed dead.", lease)
        except Exception:
            logger.exception("%s could not be settled; it runs again when its lease has expired.", lease)
        finally:
            lease.settled = True
            self._let_go(lease)

    async def flush(self) -> None:
        """Wait until what has been done is written."""
        if self._exchange is not None:
            await asyncio.wait([self._exchange])

    def abandon(self) -> None:
        """Let go of what was claimed and has not begun; it is given back at the end, or when its lease has expired."""
        self._held = {key: lease for key, lease in self._held.items() if lease.runner is not None}

    async def stop(self, patience: float = 5.0) -> None:
        """Cancel what still runs, and give everything back.

        Args:
            patience: Seconds that cancelled tasks have to clean up.
        """
        self._stopping = True
        for lease in self._held.values():
            lease.interruptible = True  # Its thread goes on, and nobody hears of it.
            lease.cancel()
        ending = [lease.runner for lease in self._held.values() if lease.runner is not None] + [*self._settling]
        if ending:
            await asyncio.wait(ending, timeout=patience)
        if self._exchange is not None:
            await asyncio.wait([self._exchange], timeout=patience)
        if self._heartbeat is not None:
            try:
                await self._broker.queue.release()
            except Exception:
                logger.exception("Tasks could not be given back; they run again when their leases have expired.")
            await self._heartbeat.stop()
            self._heartbeat = None

    def _write(self) -> None:
        """See that what has been done is written, and what is wanted is claimed."""
        if self._exchange is None:
            self._exchange = asyncio.create_task(self._write_all(), name="appkit-exchange")

    async def _write_all(self) -> None:
        try:
            while self._done or self._wanted is not None:
                await self._gather()
                done, self._done = self._done, []
                wanted, self._wanted = self._wanted, None
                try:
                    claimed = await self._write_once(done, claim=wanted is not None)
                except Exception as exc:  # noqa: BLE001 - whoever wants tasks hears of it
                    if wanted is not None:
                        wanted.set_exception(exc)
                    await self._write_each(done, exc)
                else:
                    for lease in done:
                        self._held.pop(lease.task.key, None)
                    if wanted is not None:
                        wanted.set_result(self._keep(claimed))
        finally:
            self._exchange = None

    async def _gather(self) -> None:
        """Let go along what ends at the same moment, and the claim for the room that this makes."""
        for _ in range(STEPS):
            await asyncio.sleep(0)
            if self._wanted is not None:
                return

    async def _write_each(self, done: Sequence[Lease], error: Exception) -> None:
        """Write one after the other, after all together failed: perhaps one of them can't be written."""
        if isinstance(error, ServiceUnavailableException) and not self._stopping:
            self._done[:0] = done
            await asyncio.sleep(1 if done else 0)
            return
        for lease in done:
            lease.settled = lease.done = False
            try:
                await self._broker.queue.finish(lease.task, result=lease.result_json)
            except Exception as exc:  # noqa: BLE001 - it is written to the row, if that can be
                await self.settle(lease, exc)
            self._held.pop(lease.task.key, None)

    async def _write_once(self, done: Collection[Lease], *, claim: bool) -> list[ClaimedTask]:
        broker = self._broker

        def room() -> int:
            return max(1, broker.concurrency - len(self._held) + len(done)) if claim else 0

        finished, claimed = await broker.queue.exchange(
            [Finished(lease.task, lease.result_json) for lease in done], broker.get_all_tasks(), room=room
        )
        for lease in done:
            if lease.task.key not in finished:
                logger.warning("%s was given to another process, for this one seemed dead.", lease)
        return claimed

    def _let_go(self, lease: Lease) -> None:
        if not lease.done:
            self._held.pop(lease.task.key, None)

    def _keep(self, claimed: Collection[ClaimedTask]) -> list[Lease]:
        if self._heartbeat is None and claimed:
            self._heartbeat = self._start_heartbeat()
        leases = [Lease(self._broker, task) for task in claimed]
        self._held |= {lease.task.key: lease for lease in leases}
        return leases

    def _start_heartbeat(self) -> Heartbeat:
        broker, loop = self._broker, asyncio.get_running_loop()
        return Heartbeat(
            broker.database.settings,
            broker.settings.tasks,
            broker.queue.owner,
            held=lambda: [lease.task for lease in self._held.copy().values()],  # At a stroke, for it is a thread.
            lost=lambda tasks: loop.call_soon_threadsafe(self._cancel, tasks),
            called_off=lambda tasks: loop.call_soon_threadsafe(self._call_off, tasks),
        )

    def _cancel(self, tasks: Collection[ClaimedTask]) -> None:
        for task in tasks:
            if lease := self._held.get(task.key):
                lease.cancel()

    def _call_off(self, tasks: Collection[ClaimedTask]) -> None:
        for task in tasks:
            if lease := self._held.get(task.key):
                lease.called_off = True
        self._cancel(tasks)

    def _ended(self, lease: Lease, context: Context, runner: asyncio.Task[Any]) -> None:
        """Settle what never got to `post_execute`: a teardown failed, or a middleware, or it was cancelled."""
        error = asyncio.CancelledError() if runner.cancelled() else runner.exception()
        if lease.settled:
            self._let_go(lease)
        if error is not None:
            logger.error("%s ended badly.", lease, exc_info=error)
        if not lease.settled:
            error = error or RuntimeError("Taskiq came to no result.")
            settling = runner.get_loop().create_task(self.settle(lease, error), context=context)
            self._settling.add(settling)
            settling.add_done_callback(self._settling.discard)

    async def _persist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Write, and try again for a second or two when the database is busy."""
        for pause in (0.1, 1.0):
            try:
                return await write()
            except ServiceUnavailableException:
                await asyncio.sleep(pause)
        return await write()

    async def _close(self, lease: Lease, error: BaseException) -> bool:
        outcome, queue = lease.judge(error), self._broker.queue
        if outcome.cancelled:
            return await queue.drop(lease.task, outcome.error, outcome.code)
        if not await queue.fail(
            lease.task, outcome.error, code=outcome.code, retry_in=outcome.retry_in, counts=outcome.counts
        ):
            return False
        if outcome.retry_in is None:
            logger.error("%s is dead after attempt %d: %s", lease, lease.task.attempts, outcome.error)
        else:
            level = logging.INFO if isinstance(error, Wish) else logging.WARNING
            logger.log(level, "%s runs again in %.3g s: %s", lease, outcome.retry_in, outcome.error)
            asyncio.get_running_loop().call_later(outcome.retry_in, self._broker.wake)
        context = self._broker.database.context
        if context is not None and isinstance(error, Exception) and not isinstance(error, Wish):
            await context.plugins.notify("on_exception", exception=error)
        return True
