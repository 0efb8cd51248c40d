"""A plugin that adds a scheme for `TASKS_BROKER_URL`."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from taskiq import AsyncBroker, BrokerMessage

from appkit import AppKit, BrokerScheme, Settings, hookimpl


class LoftBroker(AsyncBroker):
    """A Taskiq broker with a queue in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.loft: asyncio.Queue[bytes] = asyncio.Queue()

    async def kick(self, message: BrokerMessage) -> None:
        await self.loft.put(message.message)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        while True:
            yield await self.loft.get()


class Pigeons:
    @hookimpl
    def register_brokers(self) -> list[BrokerScheme]:
        return [BrokerScheme("pigeon", connect)]


def connect(settings: Settings, queue: str) -> Any:
    return LoftBroker()  # A real broker would use settings.tasks.broker_url and the queue's name.


kit = AppKit(plugins=[Pigeons()])  # TASKS_BROKER_URL=pigeon://loft
