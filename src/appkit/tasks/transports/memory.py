"""`memory://`: messages within one process, to test or try an external broker without a server."""

import asyncio
from collections.abc import AsyncGenerator

from taskiq import AsyncBroker, BrokerMessage

from appkit.core.settings import Settings
from appkit.exceptions import AppKitError
from appkit.tasks.transports import parse_address


class MemoryBroker(AsyncBroker):
    """Carries messages within one process."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()

    async def kick(self, message: BrokerMessage) -> None:
        """Queue a message."""
        self._messages.put_nowait(message.message)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Yield the messages, forever."""
        while True:
            yield await self._messages.get()


def connect(settings: Settings, queue: str) -> AsyncBroker:
    """Make a queue in this process's memory."""
    parse_address(settings, queue)
    if settings.production:
        raise AppKitError(
            "TASKS_BROKER_URL is memory://, whose messages reach no other process. "
            "In production, use db:// or a server's URL."
        )
    return MemoryBroker()
