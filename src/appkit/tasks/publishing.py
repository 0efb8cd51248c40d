"""PublishingBroker: all but `db://`. A Taskiq broker carries the news of a row, and the row stays the truth."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress

from taskiq import AckableMessage, AsyncBroker, BrokerMessage
from taskiq.utils import maybe_awaitable

from appkit.core.settings import Settings
from appkit.repository.database import Database
from appkit.tasks.broker import OutboxBroker, uninterrupted
from appkit.tasks.lease import Lease
from appkit.tasks.transports import Connect

BACKLOG = 1000
"""Tasks of one queue that are announced at once; what is beyond waits in the outbox, where priorities hold.

Transports hold no more than that either, and drop the oldest: news that is sent again after a lease replaces what went
unheard, so that workers who are slow don't drown in it."""

AT_ONCE = 20
"""Messages that are on their way to the server at once."""

logger = logging.getLogger(__name__)

News = bytes | AckableMessage


class PublishingBroker(OutboxBroker):
    """Announces committed rows through a Taskiq broker, and claims those that it hears of.

    A message is only news, and holds a task's id. When one gets lost, with the server or with the worker that had it,
    the row is announced again after `TASKS_LEASE`; when one comes twice, its row is claimed already. So no broker has
    to be trusted, and each of them redelivers, retries and gives up in the same way.

    Args:
        settings: The app's settings.
        database: Where the outbox is.
        connect: Makes the Taskiq broker for a queue.
    """

    def __init__(self, settings: Settings, database: Database | None, connect: Connect) -> None:
        super().__init__(settings, database)
        self._connect = connect
        self._transports: dict[str, AsyncBroker] = {}
        self._connecting = asyncio.Lock()
        self._publisher: asyncio.Task[None] | None = None
        self._heard: asyncio.Queue[News] = asyncio.Queue()
        self._listeners: dict[str, asyncio.Task[None]] = {}
        self._behind = False
        """Whether there may be more to announce as soon as there is room."""
        connect(settings, "default")  # What is wrong with the URL is said here, and not by a worker in the night.

    async def startup(self) -> None:
        """Begin to announce."""
        await super().startup()
        self._connecting = asyncio.Lock()
        self._publisher = asyncio.create_task(self._publish_forever(), name="appkit-publisher")

    async def shutdown(self) -> None:
        """Announce no more, and give back what runs here."""
        if self._publisher is not None:
            self._publisher.cancel()
            await asyncio.wait([self._publisher])
        await super().shutdown()
        for queue, transport in [*self._transports.items()]:
            await self._disconnect(queue, transport)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Claim the rows that are announced and yield their messages, for ever."""
        self._heard = asyncio.Queue(maxsize=self.concurrency)
        self._listen_to(self.settings.tasks.queues or ["default"])
        try:
            while True:
                for lease in await self._claim_news():
                    if (message := await self.message(lease)) is not None:
                        yield message
        finally:
            await self._stop_listening()
            self.leases.abandon()
            with suppress(Exception):  # Nobody knows what this process heard last; without this, it waits for a lease.
                await self.queue.unpublish()

    def _listen_to(self, queues: Iterable[str]) -> None:
        for queue in queues:
            if queue not in self._listeners:
                self._listeners[queue] = asyncio.create_task(self._hear(queue), name=f"appkit-listener-{queue}")

    async def _stop_listening(self) -> None:
        """Cancel again and again, for clients of message brokers are apt to swallow it."""
        waiting = {*self._listeners.values()}
        self._listeners = {}
        while waiting:
            for listener in waiting:
                listener.cancel()
            _, waiting = await asyncio.wait(waiting, timeout=1)

    async def _hear(self, queue: str) -> None:
        """Listen to one queue; when that fails, connect anew."""
        task = asyncio.current_task()
        while task and not task.cancelling():
            transport = None
            try:
                transport = await self._transport(queue)
                async with aclosing(transport.listen()) as messages:
                    async for message in messages:
                        await self._heard.put(message)
            except Exception:
                logger.exception("Queue %r can't be heard, and is connected anew.", queue)
            if transport is not None:
                await self._disconnect(queue, transport)
            await asyncio.sleep(1)

    async def _claim_news(self) -> list[Lease]:
        """Claim as much of what was heard as there is room for. A database that fails is asked again, later."""
        news = [await self._heard.get()]
        room = max(1, self.concurrency - len(self.leases))
        news += [self._heard.get_nowait() for _ in range(min(room - 1, self._heard.qsize()))]
        ids = [*map(_task_id, news)]
        for pause in (0.1, 1.0, 5.0):
            try:
                leases = await uninterrupted(self.leases.claim(self.get_all_tasks(), ids))
                break
            except Exception:
                logger.exception("Tasks that were announced could not be claimed.")
                await asyncio.sleep(pause)
        else:
            return []
        for message in news:
            if isinstance(message, AckableMessage):
                with suppress(Exception):  # It comes again then, and its row is claimed.
                    await maybe_awaitable(message.ack())
        if self._behind:
            self._woken.set()
        return leases

    async def _publish_forever(self) -> None:
        while True:
            await self._next(self._publish)

    async def _publish(self) -> int:
        """Announce what waits, as far as there is room."""
        announced = await self.queue.published()
        full = {queue for queue, count in announced.items() if count > 0.9 * BACKLOG}
        self._behind = bool(full)
        if self._listeners and not self.settings.tasks.queues:
            self._listen_to(announced)
        room = BACKLOG - max((count for queue, count in announced.items() if queue not in full), default=0)
        tasks = await self.queue.publish(self.get_all_tasks(), room, except_queues=full)
        try:
            for first in range(0, len(tasks), AT_ONCE):
                await asyncio.gather(*(self._announce(*task) for task in tasks[first : first + AT_ONCE]))
        except Exception:
            await self.queue.unpublish([task_id for task_id, _, _ in tasks])
            raise
        return len(tasks)

    async def _announce(self, task_id: str, name: str, queue: str) -> None:
        transport = await self._transport(queue)
        try:
            await transport.kick(BrokerMessage(task_id=task_id, task_name=name, message=task_id.encode(), labels={}))
        except Exception:
            await self._disconnect(queue, transport)
            raise

    async def _transport(self, queue: str) -> AsyncBroker:
        """The connection for one queue, made where there is none."""
        async with self._connecting:
            if queue not in self._transports:
                transport = self._connect(self.settings, queue)
                transport.is_worker_process = self.is_worker_process
                try:
                    await transport.startup()
                except BaseException:
                    await _close(transport)
                    raise
                self._transports[queue] = transport
            return self._transports[queue]

    async def _disconnect(self, queue: str, transport: AsyncBroker) -> None:
        if self._transports.get(queue) is transport:
            del self._transports[queue]
            await _close(transport)


async def _close(transport: AsyncBroker) -> None:
    with suppress(Exception):  # It may have failed before.
        await transport.shutdown()


def _task_id(message: News) -> str:
    return (message.data if isinstance(message, AckableMessage) else message).decode(errors="replace")
