"""PublishingBroker: all but `db://`. A Taskiq broker carries the news of a row, and the row stays the truth."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, Protocol, runtime_checkable

from taskiq import AckableMessage, AsyncBroker, BrokerMessage
from taskiq.utils import maybe_awaitable

from appkit.core.settings import Settings
from appkit.repository.database import Database
from appkit.tasks.broker import OutboxBroker
from appkit.tasks.router import Task
from appkit.tasks.transports import Connect

BACKLOG: Final = 1000
"""Messages that the server keeps of one queue, at the most. It may drop the oldest, for they are only news."""

AT_ONCE: Final = 100
"""Rows that are announced at once. Where more wait, workers are awake already and find them."""

CONNECTIONS: Final = 20
"""Messages that are on their way to the server at once, where it takes one by one."""

logger = logging.getLogger(__name__)


@runtime_checkable
class Batches(Protocol):
    """What a transport also has that can send many messages by one command."""

    async def kick_all(self, messages: Sequence[BrokerMessage]) -> None:
        """Send them."""


class PublishingBroker(OutboxBroker):
    """Announces committed rows through a Taskiq broker, and claims rows when it hears of some.

    A message is only news, which wakes one worker. Awake, it claims rows as one of `db://` does, until none is left
    that may run, and like that one it looks now and then by itself. So no broker has to be trusted: a message that is
    lost costs a while, one that comes late or twice costs a query, and tasks are tried again alike with all of them.

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
        self._listeners: dict[str, asyncio.Task[None]] = {}
        self._announced = {"default"}
        """Queues that there are, as far as this process knows."""
        self._has_room = asyncio.Event()
        self._cut_off: set[str] = set()
        """Queues that can't be heard at the moment."""
        connect(settings, "default")  # What is wrong with the URL is said here, and not by a worker in the night.

    def add_task(self, task: Task[..., Any]) -> None:
        """Make a router's task known, and its queue."""
        super().add_task(task)
        self._announced.add(task.policy.queue)

    @property
    def healthy(self) -> bool:
        """Whether the last look for work went well, and news of it is heard."""
        return super().healthy and not self._cut_off

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

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        """Claim rows when some are announced, and now and then without, and yield their messages, for ever."""
        self._has_room = asyncio.Event()
        self._watch = self.watch(self.leases.take)
        self._listen_to(self.settings.tasks.queues or self._announced)
        try:
            while True:
                self._has_room.set()
                leases = await self._watch.next()
                self._has_room.clear()
                for lease in leases:
                    if (message := await self.message(lease)) is not None:
                        yield message
        finally:
            await self._stop_listening()
            self.leases.abandon()

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
                self._cut_off.discard(queue)
                async with aclosing(transport.listen()) as messages:
                    async for message in messages:
                        await self._heed(message)
            except Exception:
                self._cut_off.add(queue)
                logger.exception("Queue %r can't be heard, and is connected anew.", queue)
            if transport is not None:
                await self._disconnect(queue, transport)
            await asyncio.sleep(1)

    async def _heed(self, message: bytes | AckableMessage) -> None:
        """Look for work, and leave further news to others as long as there is room for no more."""
        self._watch.wake()
        if isinstance(message, AckableMessage):
            await maybe_awaitable(message.ack())
        await self._has_room.wait()

    async def _publish_forever(self) -> None:
        watch = self.watch(self._publish)
        while True:
            await watch.next()
            await watch.wait(self.interval)

    async def _publish(self) -> int:
        """Announce what waits, some of it."""
        tasks = await self.queue.publish(self.get_all_tasks(), AT_ONCE)
        messages: dict[str, list[BrokerMessage]] = {}
        for task_id, name, queue in tasks:
            message = BrokerMessage(task_id=task_id, task_name=name, message=task_id.encode(), labels={})
            messages.setdefault(queue, []).append(message)
        try:
            for queue, news in messages.items():
                await self._announce(queue, news)
        except Exception:
            await self.queue.unpublish([task.task_id for task in tasks])
            raise
        self._announced |= messages.keys()
        if self._listeners and not self.settings.tasks.queues:
            self._listen_to(messages)
        return len(tasks)

    async def _announce(self, queue: str, news: Sequence[BrokerMessage]) -> None:
        transport = await self._transport(queue)
        try:
            if isinstance(transport, Batches):
                await transport.kick_all(news)
            else:
                for first in range(0, len(news), CONNECTIONS):
                    await asyncio.gather(*map(transport.kick, news[first : first + CONNECTIONS]))
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
