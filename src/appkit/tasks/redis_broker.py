"""RedisBroker: a Redis stream for each queue. Each entry is read once and deleted."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from redis.asyncio import Redis
from taskiq import BrokerMessage
from taskiq_redis import RedisStreamBroker


class RedisBroker(RedisStreamBroker):
    """Taskiq's broker, but each entry is deleted when it is read. Entries only wake workers, so a loss does no harm.

    Taskiq's broker prefetches a hundred entries. When its worker stops, these entries wait for ten minutes, and then
    for a new entry. The broker searches for these entries after each read. Acknowledged entries are never deleted.
    """

    async def kick_all(self, messages: Sequence[BrokerMessage]) -> None:
        """Send many messages in one round trip."""
        async with Redis(connection_pool=self.connection_pool) as redis, redis.pipeline(transaction=False) as pipeline:
            for message in messages:
                pipeline.xadd(self.queue_name, {b"data": message.message}, maxlen=self.maxlen)
            await pipeline.execute()

    async def listen(self) -> AsyncGenerator[bytes, None]:  # type: ignore[override] # Nothing to acknowledge.
        """Read and delete entries, forever."""
        async with Redis(connection_pool=self.connection_pool) as redis:
            while True:
                streams: Any = await redis.xreadgroup(
                    self.consumer_group_name,
                    self.consumer_name,
                    {self.queue_name: ">"},
                    count=self.count,
                    block=self.block,
                    noack=True,
                )
                for _, entries in streams:
                    await redis.xdel(self.queue_name, *(entry for entry, _ in entries))
                    for _, fields in entries:
                        yield fields[b"data"]
