"""`memory://`: the way of an external broker without a server, for tests and for trying things out."""

import asyncio
from collections.abc import AsyncGenerator

from taskiq import AsyncBroker, BrokerMessage

from appkit.core.settings import Settings
from appkit.exceptions import AppKitError
from appkit.tasks.transports.address import parse_address


class MemoryBroker(AsyncBroker):
    """Carries messages within one process."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()

    async def kick(self, message: BrokerMessage) -> None:
        """Put a message in."""
        self._messages.put_nowait(message.message)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Take messages out, for ever."""
        while True:
            yield await self._messages.get()


def connect(settings: Settings, queue: str) -> AsyncBroker:
    """A queue in this process's memory."""
    parse_address(settings, queue)
    if settings.production:
        raise AppKitError(
            "TASKS_BROKER_URL is memory://, and no other process hears of its tasks. "
            "In production, use db:// or a server's URL."
        )
    return MemoryBroker()
