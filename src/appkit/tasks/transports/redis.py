"""`redis://`: a stream for each queue, whose entries are read once and deleted."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from redis.asyncio import Redis
from taskiq import AsyncBroker, BrokerMessage
from taskiq_redis import RedisStreamBroker

from appkit.core.settings import Settings
from appkit.tasks.publisher import BACKLOG
from appkit.tasks.transports import parse_address


class RedisBroker(RedisStreamBroker):
    """Taskiq's broker, but it deletes each entry on reading. Entries only wake workers, so losing one does no harm.

    Taskiq's own broker prefetches a hundred entries. When its worker stops, they wait for ten minutes and then for a
    new entry. It looks for such entries after each read, and keeps all acknowledged entries.
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


def connect(settings: Settings, queue: str) -> AsyncBroker:
    """Make a stream with the queue's name."""
    address = parse_address(
        settings, queue, "health_check_interval", "socket_connect_timeout", "ssl_ca_certs", "ssl_cert_reqs"
    )
    return RedisBroker(
        address.url,
        queue_name=address.topic,
        consumer_name="workers",
        consumer_id="0",  # Start at the first entry, even if it is older than the first worker.
        maxlen=BACKLOG,
        xread_count=settings.tasks.concurrency,
        xread_block=1000,
    )
