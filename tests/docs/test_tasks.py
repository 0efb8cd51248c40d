"""The pages on tasks do what they say."""

import pytest

pytestmark = pytest.mark.slow  # A process works for each test.
TWICE = """
import asyncio
from idempotent_tasks import Balance, book, charge, charged, kit
from appkit import enqueue

async def main():
    async with kit.lifespan(work=True):
        async with kit.session() as db:
            balance = Balance(cents=5)
            db.add(balance)
            await db.flush()
            handles = [enqueue(db, book, balance.id, 7), enqueue(db, charge, 100)]
        for handle in handles:
            await handle.result(timeout=30)
        async with kit.session() as db:
            print((await db.get_one(Balance, balance.id)).cents, list(charged.values()))

asyncio.run(main())
"""

PIGEON = """
import asyncio
from own_broker import kit

@kit.task
async def fly():
    print("flown")

async def main():
    async with kit.lifespan(work=True):
        handle = await fly.kiq()
        await handle.result(timeout=30)
        print(type(kit.broker).__name__)

asyncio.run(main())
"""


def test_idempotent_tasks_write_once(folder, python):
    assert python(folder("idempotent_tasks"), "-c", TWICE).splitlines()[-1] == "12 [100]"


def test_broker_of_one_s_own_carries_tasks(folder, python, environment):
    environment["TASKS_BROKER_URL"] = "pigeon://loft"
    assert python(folder("own_broker"), "-c", PIGEON).splitlines()[-2:] == ["flown", "PublishingBroker"]
