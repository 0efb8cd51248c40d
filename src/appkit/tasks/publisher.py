"""PublishingBroker: the outbox with a message broker, as for `redis://`, `amqp://`, `nats://` and `memory://`."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, Protocol, runtime_checkable

from taskiq import AckableMessage, AsyncBroker, BrokerMessage
from taskiq.utils import maybe_awaitable

from appkit.core.settings import Settings
from appkit.repository.database import Database
from appkit.tasks.outbox_broker import OutboxBroker
from appkit.tasks.router import Task
from appkit.tasks.transports import Connect

PUBLISH_BATCH: Final = 100
"""The maximum number of rows to publish in one poll. The workers that get these messages find the other rows."""

CONCURRENT_SENDS: Final = 20
"""Messages to send at the same time, if the server accepts only one message per command."""

logger = logging.getLogger(__name__)


@runtime_checkable
class Batches(Protocol):
    """A transport that can send many messages by one command."""

    async def kick_all(self, messages: Sequence[BrokerMessage]) -> None:
        """Send the messages."""


class PublishingBroker(OutboxBroker):
    """Publishes committed rows through a transport (another Taskiq broker). A received message wakes it to claim rows.

    A message only wakes one worker. The worker then claims rows as with `db://`, until no task is left that may run.
    Workers also poll at intervals, so no guarantee depends on the message broker. A lost message delays tasks until the
    next poll. A late or repeated message costs a query. Retries work the same with all message brokers.
    """

    def __init__(self, settings: Settings, database: Database | None, connect: Connect) -> None:
        super().__init__(settings, database)
        self._connect = connect
        self._transports: dict[str, AsyncBroker] = {}
        self._connecting = asyncio.Lock()
        self._publisher: asyncio.Task[None] | None = None
        self._listeners: dict[str, asyncio.Task[None]] = {}
        self._known_queues = {"default"}
        self._has_room = asyncio.Event()
        self._disconnected: set[str] = set()
        """Queues without a connection."""
        connect(settings, "default")  # Fail now rather than in a worker, if the URL is wrong or an extra is missing.

    def add_task(self, task: Task[..., Any]) -> None:
        """Register a router's task, and its queue."""
        super().add_task(task)
        self._known_queues.add(task.policy.queue)

    @property
    def healthy(self) -> bool:
        """Whether the last polls succeeded, and all queues are connected."""
        return super().healthy and not self._disconnected

    async def startup(self) -> None:
        """Get ready to run tasks, and start to publish."""
        await super().startup()
        self._connecting = asyncio.Lock()
        self._publisher = asyncio.create_task(self._publish_forever(), name="appkit-publisher")

    async def shutdown(self) -> None:
        """Stop publishing, cancel the tasks that still run, and release their leases."""
        if self._publisher is not None:
            self._publisher.cancel()
            await asyncio.wait([self._publisher])
        await super().shutdown()
        for queue, transport in [*self._transports.items()]:
            await self._disconnect(queue, transport)

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        """Claim rows when messages arrive, and yield Taskiq's messages for these rows, forever."""
        self._has_room = asyncio.Event()
        self._poller = self.add_poller(self.in_flight.claim_next)
        self._listen_to(self.settings.tasks.queues or self._known_queues)
        try:
            while True:
                self._has_room.set()
                attempts = await self._poller.next()
                self._has_room.clear()
                for attempt in attempts:
                    if (message := await self.message(attempt)) is not None:
                        yield message
        finally:
            await self._stop_listening()
            self.in_flight.forget_unstarted()

    def _listen_to(self, queues: Iterable[str]) -> None:
        for queue in queues:
            if queue not in self._listeners:
                listener = asyncio.create_task(self._listen_forever(queue), name=f"appkit-listener-{queue}")
                self._listeners[queue] = listener

    async def _stop_listening(self) -> None:
        """Cancel the listeners until they end, because clients of message brokers may ignore a cancellation."""
        waiting = {*self._listeners.values()}
        self._listeners = {}
        while waiting:
            for listener in waiting:
                listener.cancel()
            _, waiting = await asyncio.wait(waiting, timeout=1)

    async def _listen_forever(self, queue: str) -> None:
        """Listen to one queue, and reconnect when the connection fails."""
        task = asyncio.current_task()
        while task and not task.cancelling():
            transport = None
            try:
                transport = await self._transport(queue)
                self._disconnected.discard(queue)
                async with aclosing(transport.listen()) as messages:
                    async for message in messages:
                        await self._receive(message)
            except Exception:
                self._disconnected.add(queue)
                logger.exception("Connection to broker queue %r lost; reconnecting in 1 s.", queue)
            if transport is not None:
                await self._disconnect(queue, transport)
            await asyncio.sleep(1)

    async def _receive(self, message: bytes | AckableMessage) -> None:
        """Wake the poller, and wait until this process can run more tasks. Other workers get the next messages."""
        self._poller.wake()
        if isinstance(message, AckableMessage):
            await maybe_awaitable(message.ack())
        await self._has_room.wait()

    async def _publish_forever(self) -> None:
        poller = self.add_poller(self._publish)
        while True:
            await poller.next()
            await poller.wait(self.poll_interval)

    async def _publish(self) -> int:
        """Publish a batch of pending tasks; returns how many."""
        tasks = await self.queue.publish(self.get_all_tasks(), PUBLISH_BATCH)
        by_queue: dict[str, list[BrokerMessage]] = {}
        for task_id, name, queue in tasks:
            message = BrokerMessage(task_id=task_id, task_name=name, message=task_id.encode(), labels={})
            by_queue.setdefault(queue, []).append(message)
        try:
            for queue, messages in by_queue.items():
                await self._send(queue, messages)
        except Exception:
            await self.queue.unpublish([task.task_id for task in tasks])
            raise
        self._known_queues |= by_queue.keys()
        if self._listeners and not self.settings.tasks.queues:
            self._listen_to(by_queue)
        return len(tasks)

    async def _send(self, queue: str, messages: Sequence[BrokerMessage]) -> None:
        transport = await self._transport(queue)
        try:
            if isinstance(transport, Batches):
                await transport.kick_all(messages)
            else:
                for first in range(0, len(messages), CONCURRENT_SENDS):
                    await asyncio.gather(*map(transport.kick, messages[first : first + CONCURRENT_SENDS]))
        except Exception:
            await self._disconnect(queue, transport)
            raise

    async def _transport(self, queue: str) -> AsyncBroker:
        """The connection for one queue. The first call opens the connection."""
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
    with suppress(Exception):  # The connection may be broken already.
        await transport.shutdown()
