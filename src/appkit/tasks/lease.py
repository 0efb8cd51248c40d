"""Leases: the tasks that this process has, from the claim of a row until the row says how it ended."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncSession
from taskiq.exceptions import NoResultError

from appkit.exceptions import AppKitError, ServiceUnavailableException
from appkit.repository.queue import ClaimedTask
from appkit.tasks.arguments import InvalidArguments
from appkit.tasks.heartbeat import Heartbeat

if TYPE_CHECKING:
    from appkit.tasks.broker import OutboxBroker

logger = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """Another process has the task by now, for this one seemed dead; what it did in its `TaskSession` is undone."""


class Lease:
    """One attempt at one task."""

    def __init__(self, broker: "OutboxBroker", task: ClaimedTask) -> None:
        self.broker = broker
        self.task = task
        self.labels: dict[str, Any] = {}
        self.runner: asyncio.Task[Any] | None = None
        """Taskiq's callback, once it has begun."""
        self.session: AsyncGenerator[AsyncSession, None] | None = None
        """The `TaskSession`, which Taskiq doesn't close when the teardown of another dependency fails."""
        self.called_off = False
        """Whether somebody wants it to stop."""
        self.closing = False
        """Whether the row is about to be closed, and it's too late to cancel."""
        self.settled = False
        """Whether the row is closed, or nothing more can be done about it."""

    def __str__(self) -> str:
        return f"Task {self.task.task_name} {self.task.task_id}"

    def cancel(self) -> None:
        """Stop the attempt, unless it has as good as ended."""
        if self.runner is not None and not self.closing:
            self.runner.cancel()

    @property
    def retry_in(self) -> float | None:
        """Seconds until the next attempt; None when this was the last."""
        settings = self.broker.settings.tasks
        if self.task.attempts >= (self.task.max_attempts or settings.max_attempts):
            return None
        return float(self.labels.get("retry_delay", settings.retry_delay))


_current: ContextVar[Lease] = ContextVar("appkit_lease")


def current_lease() -> Lease:
    """The attempt that runs in this context.

    Raises:
        AppKitError: When no task runs here.
    """
    try:
        return _current.get()
    except LookupError:
        raise AppKitError("TaskSession and TaskContext are for tasks that a worker runs, and none runs here.") from None


class Leases:
    """All that one broker has at the moment, renewed by a heartbeat from the first claim on."""

    def __init__(self, broker: "OutboxBroker") -> None:
        self._broker = broker
        self._held: dict[tuple[int, int], Lease] = {}
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

    async def claim(
        self, names: Collection[str], *, limit: int = 1, task_ids: Collection[str] | None = None
    ) -> list[Lease]:
        """Claim tasks, as `TaskQueue.claim` does, and keep them."""
        broker = self._broker
        if self._heartbeat is None:
            loop = asyncio.get_running_loop()
            self._heartbeat = Heartbeat(
                broker.database.settings,
                broker.settings.tasks,
                broker.queue.owner,
                held=self._tasks,
                lost=lambda tasks: loop.call_soon_threadsafe(self._cancel, tasks),
                called_off=lambda tasks: loop.call_soon_threadsafe(self._call_off, tasks),
            )
        leases = [Lease(broker, task) for task in await broker.queue.claim(names, limit=limit, task_ids=task_ids)]
        self._held |= {lease.task.key: lease for lease in leases}
        return leases

    def begin(self, lease: Lease) -> None:
        """Let the lease live as long as the asyncio task that calls this, in whose context the attempt runs."""
        runner = lease.runner = asyncio.current_task()
        assert runner is not None  # noqa: S101 - Taskiq calls this from a coroutine
        _current.set(lease)
        runner.add_done_callback(partial(self._ended, lease, copy_context()))

    async def settle(self, lease: Lease, error: BaseException | None) -> None:
        """Write to the row how the attempt ended; never raises, for there is nobody left to tell."""
        if lease.settled:
            return
        lease.closing = True
        try:
            if lease.session is not None:
                await lease.session.aclose()
            if self._stopping and isinstance(error, asyncio.CancelledError):
                return  # It is given back with everything else.
            if not await self._persist(lambda: self._close(lease, error)):
                logger.warning("%s was given to another process, for this one seemed dead.", lease)
        except Exception:
            logger.exception("%s could not be settled; it runs again when its lease has expired.", lease)
        finally:
            lease.settled = True
            self._held.pop(lease.task.key, None)

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
            lease.cancel()
        ending = [lease.runner for lease in self._held.values() if lease.runner is not None] + [*self._settling]
        if ending:
            await asyncio.wait(ending, timeout=patience)
        if self._heartbeat is not None:
            try:
                await self._broker.queue.release()
            except Exception:
                logger.exception("Tasks could not be given back; they run again when their leases have expired.")
            await self._heartbeat.stop()
            self._heartbeat = None

    def _tasks(self) -> list[ClaimedTask]:
        return [lease.task for lease in self._held.copy().values()]  # Copied at a stroke: the heartbeat is a thread.

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
        self._held.pop(lease.task.key, None)
        if error is not None:
            logger.error("%s ended badly.", lease, exc_info=error)
        if not lease.settled:
            error = error or RuntimeError("Taskiq came to no result.")
            settling = runner.get_loop().create_task(self.settle(lease, error), context=context)
            self._settling.add(settling)
            settling.add_done_callback(self._settling.discard)

    async def _persist(self, write: Callable[[], Awaitable[bool]]) -> bool:
        """Write, and try again for a second or two when the database is busy."""
        for pause in (0.1, 1.0):
            try:
                return await write()
            except ServiceUnavailableException:
                await asyncio.sleep(pause)
        return await write()

    async def _close(self, lease: Lease, error: BaseException | None) -> bool:
        if error is None or isinstance(error, NoResultError):  # Taskiq's word for "done, and nothing to keep".
            return await self._broker.queue.finish(lease.task)
        if lease.called_off and isinstance(error, asyncio.CancelledError):
            return await self._broker.queue.drop(lease.task, "It was called off while it ran.", "TASK_CANCELLED")
        retry_in = None if isinstance(error, InvalidArguments) else lease.retry_in
        if not await self._broker.queue.fail(lease.task, _describe(error), retry_in=retry_in):
            return False
        if retry_in is None:
            logger.error("%s is dead after attempt %d: %s", lease, lease.task.attempts, _describe(error))
        else:
            logger.warning("%s failed, and runs again in %g s: %s", lease, retry_in, _describe(error))
            asyncio.get_running_loop().call_later(retry_in, self._broker.wake)
        context = self._broker.database.context
        if context is not None and isinstance(error, Exception):
            await context.plugins.notify("on_exception", exception=error)
        return True


def _describe(error: BaseException) -> str:
    text = str(error) if isinstance(error, InvalidArguments) else f"{type(error).__qualname__}: {error}"
    return text.removesuffix(": ")[:4000]
