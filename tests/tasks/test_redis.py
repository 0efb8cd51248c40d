"""`redis://`: a stream says who is to look at which row, and the outbox stays the truth."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from appkit.tasks.context import TaskSession
from appkit.tasks.relay import Relay
from appkit.tasks.router import enqueue


@pytest.fixture
def broker_url(redis_url: str, redis_prefix: str) -> str:
    return f"{redis_url}?queue={redis_prefix}tasks"


@pytest.fixture
async def redis_app(make_app: Callable[..., Any], broker_url: str) -> Any:
    return await make_app(broker_url=broker_url, lease=1)


@pytest.fixture
async def redis(redis_url):
    async with Redis.from_url(redis_url) as client:
        yield client


async def test_worker_runs_what_the_app_publishes(make_app, broker_url, redis, redis_prefix):
    app, worker = await make_app(broker_url=broker_url, lease=30), await make_app(broker_url=broker_url, lease=30)
    ran = []

    @app.router.task
    async def work(number: int, db: TaskSession) -> None:
        ran.append(number)
        await app.effect(db, str(number))

    worker.router = app.router
    async with Relay(app.broker(), work=False) as relay:
        async with app.session() as db:
            for number in range(30):
                enqueue(db, work, number)
        await app.until(lambda rows: all(row.state == "published" for row in rows))
        assert relay.healthy
        assert await redis.xlen(f"{redis_prefix}tasks") == 30
        async with worker.working():
            rows = await app.settled()
        await asyncio.sleep(0.5)
        assert await redis.xlen(f"{redis_prefix}tasks") <= 1

    assert sorted(ran) == list(range(30))
    assert {row.attempts for row in rows} == {1}
    assert len(await app.effects()) == 30


async def test_task_starts_within_milliseconds(redis_app):
    app = redis_app
    app.settings.tasks.__dict__["poll_interval"] = 5
    started: asyncio.Queue[float] = asyncio.Queue()
    clock = asyncio.get_running_loop().time

    @app.router.task
    async def work() -> None:
        started.put_nowait(clock())

    async with app.working():
        await asyncio.sleep(0.5)
        times = []
        for _ in range(5):
            async with app.session() as db:
                enqueue(db, work)
            committed = clock()
            times.append(await asyncio.wait_for(started.get(), 3) - committed)

    assert min(times) < 0.2


async def test_lost_message_is_published_again(redis_app, redis, redis_prefix):
    app = redis_app

    @app.router.task
    async def work(db: TaskSession) -> None:
        await app.effect(db, "worked")

    async with Relay(app.broker(), work=False):
        async with app.session() as db:
            enqueue(db, work)
        await app.until(lambda rows: rows[0].state == "published")
        await redis.delete(f"{redis_prefix}tasks")  # Redis forgets everything, its consumer group too.
        async with app.working():
            (row,) = await app.settled()

    assert (row.state, row.attempts) == ("done", 1)
    assert await app.effects() == ["worked"]


async def test_message_that_comes_twice_runs_once(redis_app, redis, redis_prefix):
    app = redis_app

    @app.router.task
    async def work(db: TaskSession) -> None:
        await app.effect(db, "worked")

    broker = app.broker()
    async with Relay(broker, work=False):
        async with app.session() as db:
            handle = enqueue(db, work)
        await app.until(lambda rows: rows[0].state == "published")
        for _ in range(3):
            await broker._send([(handle.task_id, work.name), ("unheard-of", work.name)])
        async with app.working():
            await app.settled()
            await asyncio.sleep(0.3)

    assert await app.effects() == ["worked"]


async def test_failed_task_is_published_again(redis_app):
    app = redis_app
    attempts = []

    @app.router.task
    async def work() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        (row,) = await app.settled()

    assert (row.state, row.attempts) == ("done", 3)


async def test_backlog_waits_in_the_outbox(redis_app, redis, redis_prefix, monkeypatch):
    monkeypatch.setattr("appkit.tasks.redis.BACKLOG", 5)
    app = redis_app

    @app.router.task
    async def work() -> None: ...

    async with app.session() as db:
        for _ in range(12):
            enqueue(db, work)
    async with Relay(app.broker(), work=False):
        await asyncio.sleep(2.5)  # Longer than the lease: what nobody takes isn't published over and over.
        assert await redis.xlen(f"{redis_prefix}tasks") == 5
        async with app.working():
            rows = await app.settled()

    assert {(row.state, row.attempts) for row in rows} == {("done", 1)}


async def test_stopping_worker_loses_no_message(redis_app, make_app, broker_url):
    app = redis_app

    @app.router.task
    async def work(number: int, db: TaskSession) -> None:
        await asyncio.sleep(0.01)
        await app.effect(db, str(number))

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Relay(app.broker(), work=False))
        async with app.session() as db:
            for number in range(40):
                enqueue(db, work, number)
        for _ in range(4):
            worker = await make_app(broker_url=broker_url, concurrency=2)
            worker.router = app.router
            async with worker.working():
                await asyncio.sleep(0.15)
        async with app.working():
            rows = await app.settled()

    assert sorted(map(int, await app.effects())) == list(range(40))
    assert {row.attempts for row in rows} == {1}


async def test_relay_outlives_redis(make_app, database_url, caplog):
    app = await make_app(broker_url=f"redis://127.0.0.1:{1 + os.getpid() % 1000}/0")

    @app.router.task
    async def work() -> None: ...

    async with Relay(app.broker(), work=True) as relay:
        async with app.session() as db:
            enqueue(db, work)
        await asyncio.sleep(0.3)
        assert not relay.healthy

    assert [row.state for row in await app.rows()] == ["pending"]
    assert "Tasks have come to a halt" in caplog.text
