"""The app that `chaos.py` kills: it writes orders with three tasks each, and rolls back one order in five."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import Column, Integer, MetaData, String, Table, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.exceptions import ServiceUnavailableException
from appkit.kit import AppKit
from appkit.repository.base import uuid7
from appkit.repository.outbox import OPEN, OutboxTask
from appkit.tasks.context import TaskSession
from appkit.tasks.router import enqueue

METADATA: Final = MetaData()
ORDERS: Final = Table("chaos_order", METADATA, Column("id", String(32), primary_key=True))
EFFECTS: Final = {
    kind: Table(f"chaos_{kind}", METADATA, Column("id", Integer, primary_key=True), Column("order_id", String(32)))
    for kind in ("together", "apart")
}
"""Effects in the transaction that marks the task as done (`together`), and in a separate one (`apart`)."""

PRODUCERS: Final = 3
ROLLED_BACK: Final = 0.2
ENOUGH: Final = 500
"""The maximum number of open tasks, because a slow machine would never finish more tasks."""
OUTSIDE: Final = "outside.log"
"""The file with the effects outside the database. Each effect is one line."""

kit = AppKit(discover=False)


@kit.task(name="chaos:together")
async def together(order_id: str, db: TaskSession) -> None:
    """Have an effect exactly once."""
    await _dawdle()
    await db.execute(insert(EFFECTS["together"]).values(order_id=order_id))
    await _dawdle()


@kit.task(name="chaos:apart")
async def apart(order_id: str) -> None:
    """Have an effect at least once, in the database."""
    await _dawdle()
    async with kit.session() as db:
        await db.execute(insert(EFFECTS["apart"]).values(order_id=order_id))
    await _dawdle()


@kit.task(name="chaos:outside")
async def outside(order_id: str) -> None:
    """Have an effect at least once, outside the database."""
    await _dawdle()
    file = os.open(OUTSIDE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{order_id}\n".encode())
    os.close(file)
    await _dawdle()


async def _dawdle() -> None:
    await asyncio.sleep(random.random() / 20)


async def _produce() -> None:
    """Write orders with their tasks, and roll some of them back, until the process is killed."""
    while True:
        with suppress(ServiceUnavailableException):  # The database may have been killed.
            async with kit.session() as db:
                waiting = select(func.count()).select_from(OutboxTask).where(text(OPEN))
                if (await db.scalar(waiting) or 0) < ENOUGH:
                    await _order(db)
                if random.random() < ROLLED_BACK:
                    await db.rollback()
        await asyncio.sleep(0.1)


async def _order(db: AsyncSession) -> None:
    order_id = uuid7().hex
    await db.execute(insert(ORDERS).values(id=order_id))
    for task in (together, apart, outside):
        enqueue(db, task, order_id)
    await db.flush()


@asynccontextmanager
async def _parent_lives() -> AsyncIterator[None]:
    """Exit when the parent process dies, so that a killed chaos run leaves no processes behind."""
    parent = os.getppid()

    async def watch() -> None:
        while os.getppid() == parent:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(1)
        os._exit(1)

    watching = asyncio.create_task(watch())
    yield
    watching.cancel()


async def main(*roles: str) -> None:
    """Run until the process is killed. The roles are `produce` and `work`."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_parent_lives())
        await stack.enter_async_context(kit.lifespan(work="work" in roles))
        producers = [asyncio.create_task(_produce()) for _ in range(PRODUCERS if "produce" in roles else 0)]
        Path(f"up-{os.getpid()}").touch()  # noqa: ASYNC240 - one fast call
        await asyncio.gather(*producers, asyncio.Event().wait())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
