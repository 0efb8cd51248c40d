"""Brokers with a server: a message says who is to look at which row, and the outbox stays the truth."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis
from taskiq import BrokerMessage

from appkit.repository.queue import TaskQueue
from appkit.tasks.context import TaskSession
from appkit.tasks.relay import Relay
from appkit.tasks.router import enqueue


@pytest.fixture
async def redis_app(make_app: Callable[..., Any], redis_broker: str) -> Any:
    return await make_app(broker_url=redis_broker, lease=30)


def news(task_id: str) -> BrokerMessage:
    return BrokerMessage(task_id=task_id, task_name="", message=task_id.encode(), labels={})


@pytest.fixture
async def redis(redis_url):
    async with Redis.from_url(redis_url) as client:
        yield client


async def test_worker_runs_what_the_app_announces(make_app, broker_url):
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
        async with worker.working():
            rows = await app.settled()

    assert sorted(ran) == list(range(30))
    assert {row.attempts for row in rows} == {1}
    assert len(await app.effects()) == 30


async def test_stopping_worker_loses_no_message(make_app, broker_url):
    app = await make_app(broker_url=broker_url, lease=30)

    @app.router.task
    async def work(number: int, db: TaskSession) -> None:
        await asyncio.sleep(0.01)
        await app.effect(db, str(number))

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Relay(app.broker(), work=False))
        async with app.session() as db:
            for number in range(40):
                enqueue(db, work, number)
        for _ in range(3):
            worker = await make_app(broker_url=broker_url, concurrency=2, lease=30)
            worker.router = app.router
            async with worker.working():
                await asyncio.sleep(0.15)
        async with app.working():
            rows = await app.settled()

    assert sorted(map(int, await app.effects())) == list(range(40))
    assert {row.attempts for row in rows} == {1}


async def test_memory_broker_needs_no_server(make_app):
    app = await make_app(broker_url="memory://")

    @app.router.task
    async def work(number: int, db: TaskSession) -> None:
        await app.effect(db, str(number))

    async with app.working():
        async with app.session() as db:
            for number in range(5):
                enqueue(db, work, number)
        await app.settled()

    assert sorted(await app.effects()) == ["0", "1", "2", "3", "4"]


async def test_each_queue_has_workers_of_its_own(make_app, redis_broker):
    app, all_of_them = [await make_app(broker_url=redis_broker, queues=queues) for queues in (["a"], [])]
    ran = []

    @app.router.task(queue="a")
    async def work_a() -> None:
        ran.append("a")

    @app.router.task(queue="b")
    async def work_b() -> None:
        ran.append("b")

    all_of_them.router = app.router
    async with app.working(), Relay(all_of_them.broker(), work=False):
        async with app.session() as db:
            enqueue(db, work_b)
            enqueue(db, work_a)
        await app.until(lambda rows: [row.state for row in rows] == ["published", "done"])
    assert ran == ["a"]

    async with all_of_them.working():  # A worker that isn't told its queues finds out which there are.
        await app.settled()
    assert ran == ["a", "b"]


async def test_stream_keeps_nothing_that_was_read(redis_app, redis, redis_prefix):
    app = redis_app

    @app.router.task
    async def work() -> None: ...

    async with Relay(app.broker(), work=True):
        async with app.session() as db:
            for _ in range(30):
                enqueue(db, work)
        await app.settled()
        async with asyncio.timeout(60):  # What is left is news of tasks that are done.
            while await redis.xlen(f"{redis_prefix}tasks:default"):  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.02)


async def test_commit_wakes_a_worker(make_app, redis_broker):
    app = await make_app(broker_url=redis_broker, poll_interval=600, lease=6000)
    started: asyncio.Queue[None] = asyncio.Queue()

    @app.router.task
    async def work() -> None:
        started.put_nowait(None)

    async with app.working():
        for _ in range(5):  # The first may be found by the first poll; the next one comes in ten minutes.
            async with app.session() as db:
                enqueue(db, work)
            await asyncio.wait_for(started.get(), 60)


async def test_lost_message_does_no_harm(redis_app, redis, redis_prefix):
    app = redis_app

    @app.router.task
    async def work(db: TaskSession) -> None:
        await app.effect(db, "worked")

    async with Relay(app.broker(), work=False):
        async with app.session() as db:
            enqueue(db, work)
        await app.until(lambda rows: rows[0].state == "published")
        await redis.delete(f"{redis_prefix}tasks:default")  # Redis forgets everything, its consumer group too.
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
        await broker._announce("default", [news(task_id) for task_id in (handle.task_id, "unheard-of") * 3])
        async with app.working():
            await app.settled()
            async with asyncio.timeout(60):
                while await redis.xlen(f"{redis_prefix}tasks:default"):  # noqa: ASYNC110 - Redis tells nobody
                    await asyncio.sleep(0.02)

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


async def test_worker_that_hears_of_one_task_runs_all(make_app, redis_broker, monkeypatch):
    """However little gets through, and however late a look without news would be."""
    monkeypatch.setattr("appkit.tasks.publishing.AT_ONCE", 1)
    app, worker = [await make_app(broker_url=redis_broker, lease=600, poll_interval=60, notify="off") for _ in range(2)]

    @app.router.task
    async def work() -> None: ...

    worker.router = app.router
    async with Relay(app.broker(), work=False), worker.working():
        async with app.session() as db:
            enqueue(db, work)
        await app.settled()
        async with app.session() as db:
            for _ in range(30):
                enqueue(db, work)
        rows = await app.settled()

    assert {(row.state, row.attempts) for row in rows} == {("done", 1)}


async def test_task_is_announced_once_however_long_it_waits(make_app, redis_broker, redis, redis_prefix):
    """Else those who have too much to do would be told of it again and again, and get even less done."""
    app = await make_app(broker_url=redis_broker, lease=0.3)

    @app.router.task
    async def work() -> None: ...

    async with Relay(app.broker(), work=False):
        async with app.session() as db:
            for _ in range(30):
                enqueue(db, work)
        await app.until(lambda rows: all(row.state == "published" for row in rows))
        await asyncio.sleep(1)  # Three leases.
    stream = await redis.xinfo_stream(f"{redis_prefix}tasks:default")
    assert (stream["length"], stream["entries-added"]) == (30, 30)


async def test_stale_news_hold_up_nobody(redis_app, redis, redis_prefix):
    app = redis_app

    @app.router.task
    async def work() -> None: ...

    for number in range(1000):
        await redis.xadd(f"{redis_prefix}tasks:default", {"data": f"unheard-of-{number}"})
    async with app.session() as db:
        enqueue(db, work)
    async with app.working():
        await app.settled()


async def test_worker_that_is_full_leaves_news_to_others(make_app, redis_broker, redis, redis_prefix):
    app = await make_app(broker_url=redis_broker, lease=600, concurrency=1, poll_interval=0.1)
    go_on = asyncio.Event()

    @app.router.task
    async def work() -> None:
        await go_on.wait()

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        await app.until(lambda rows: rows[0].state == "running")
        for number in range(5):
            await redis.xadd(f"{redis_prefix}tasks:default", {"data": f"news-{number}"})
        await asyncio.sleep(0.3)
        assert await redis.xlen(f"{redis_prefix}tasks:default") > 0
        go_on.set()
        await app.settled()


async def test_task_that_can_t_be_announced_is_found(make_app, caplog):
    app = await make_app(broker_url=f"redis://127.0.0.1:{1 + os.getpid() % 1000}/0")

    @app.router.task
    async def work() -> None: ...

    async with Relay(app.broker(), work=True) as relay:
        async with app.session() as db:
            enqueue(db, work)
        (row,) = await app.settled()
        assert not relay.healthy

    assert (row.state, row.attempts) == ("done", 1)
    assert "can't be heard" in caplog.text


async def test_news_of_a_database_that_fails_isn_t_forgotten(redis_app, monkeypatch, caplog):
    app = redis_app
    exchange = TaskQueue.exchange
    failures: list[int] = []

    async def failing(self, *args, **options):
        if len(failures) < 2:
            failures.append(1)
            raise OSError
        return await exchange(self, *args, **options)

    monkeypatch.setattr(TaskQueue, "exchange", failing)

    @app.router.task
    async def work() -> None: ...

    async with app.working():
        async with app.session() as db:
            enqueue(db, work)
        (row,) = await app.settled()

    assert (row.state, row.attempts, len(failures)) == ("done", 1, 2)
    assert "could not be read" in caplog.text
