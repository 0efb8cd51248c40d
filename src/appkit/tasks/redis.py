"""RedisBroker: `redis://`, where the outbox stays the truth and a stream says which worker is to look at which row."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError
from taskiq_redis import RedisStreamBroker

from appkit.core.settings import Settings
from appkit.repository.database import Database
from appkit.tasks.broker import OutboxBroker, uninterrupted
from appkit.tasks.lease import Lease

BACKLOG = 1000
"""Entries that a stream holds at most; what is beyond waits in the outbox."""

logger = logging.getLogger(__name__)


class RedisBroker(OutboxBroker, RedisStreamBroker):
    """Publishes committed rows to a Redis stream, and claims those that come out of it.

    An entry is only a hint, read once and deleted. One that gets lost, with Redis or with the worker that read it, is
    published again after `TASKS_LEASE`; one that comes twice finds its row claimed. So there is nothing to
    acknowledge, to reclaim or to trim.

    The stream is `<APP_NAME>:tasks`, or what `?queue=` in the URL says.
    """

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        url = urlsplit(settings.tasks.broker_url)
        options = parse_qs(url.query)
        (queue,) = options.pop("queue", [f"{settings.app_name}:tasks"])
        super().__init__(
            settings,
            database,
            url=url._replace(query=urlencode(options, doseq=True)).geturl(),
            queue_name=queue,
            consumer_id="0",  # From the first entry on, not from those that come after the first worker.
        )
        self._publisher: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Begin to publish."""
        await super().startup()
        self._publisher = asyncio.create_task(self._publish_forever(), name="appkit-publisher")

    async def shutdown(self) -> None:
        """Publish no more, and give back what runs here."""
        if self._publisher is not None:
            self._publisher.cancel()
            with suppress(asyncio.CancelledError):
                await self._publisher
        await super().shutdown()

    async def listen(self) -> AsyncGenerator[bytes, None]:  # type: ignore[override] # RedisStreamBroker's are ackable
        """Claim the rows that the stream speaks of and yield their messages, for ever."""
        try:
            while True:
                for lease in await uninterrupted(self._claim()):
                    if (message := await self._message(lease)) is not None:
                        yield message
        finally:
            self.leases.abandon()

    async def _claim(self) -> list[Lease]:
        try:
            async with Redis(connection_pool=self.connection_pool) as redis:
                streams: Any = await redis.xreadgroup(
                    self.consumer_group_name, "workers", {self.queue_name: ">"}, count=1, block=1000, noack=True
                )
            ids = [json.loads(fields[b"data"])["task_id"] for _, entries in streams for _, fields in entries]
            return [lease for each in ids for lease in await self.leases.claim(self.get_all_tasks(), task_id=each)]
        except Exception:
            logger.exception("Tasks could not be taken from Redis.")
            await asyncio.sleep(1)
            with suppress(RedisError):
                await self._declare_consumer_group()  # A server that lost its memory has to be told again.
            return []

    async def _publish_forever(self) -> None:
        while True:
            await self._next(self._publish)

    async def _publish(self) -> int:
        async with Redis(connection_pool=self.connection_pool) as redis:
            for group in await redis.xinfo_groups(self.queue_name):
                await redis.xtrim(self.queue_name, minid=group["last-delivered-id"], approximate=False)
            free = BACKLOG - await redis.xlen(self.queue_name)
        return await self.queue.publish(self.get_all_tasks(), free, self._send) if free > 0 else 0

    async def _send(self, tasks: Sequence[tuple[str, str]]) -> None:
        async with Redis(connection_pool=self.connection_pool) as redis, redis.pipeline(transaction=False) as pipeline:
            for task_id, name in tasks:
                pipeline.xadd(self.queue_name, {"data": json.dumps({"task_id": task_id, "task_name": name})})
            await pipeline.execute()
