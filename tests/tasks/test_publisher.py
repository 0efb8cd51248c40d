"""Message brokers: a message only wakes a worker, and the tasks are in the outbox."""

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
from appkit.tasks.router import enqueue
from appkit.tasks.worker import Worker


@pytest.fixture
async def redis_app(make_app: Callable[..., Any], redis_broker: str) -> Any:
    return await make_app(broker_url=redis_broker, lease=30)


def message(task_id: str) -> BrokerMessage:
    return BrokerMessage(task_id=task_id, task_name="", message=task_id.encode(), labels={})


@pytest.fixture
async def redis(redis_url):
    async with Redis.from_url(redis_url) as client:
        yield client


async def test_worker_runs_what_the_app_publishes(make_app, broker_url):
    app, worker = await make_app(broker_url=broker_url, lease=30), await make_app(broker_url=broker_url, lease=30)
    ran = []

    @app.router.task
    async def work(number: int, db: TaskSession) -> None:
        ran.append(number)
        await app.effect(db, str(number))

    worker.router = app.router
    async with Worker(app.broker(), work=False) as publisher:
        async with app.session() as db:
            for number in range(30):
                enqueue(db, work, number)
        await app.until(lambda rows: all(row.state == "published" for row in rows))
        assert publisher.healthy
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
        await stack.enter_async_context(Worker(app.broker(), work=False))
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
    async with app.working(), Worker(all_of_them.broker(), work=False):
        async with app.session() as db:
            enqueue(db, work_b)
            enqueue(db, work_a)
        await app.until(lambda rows: [row.state for row in rows] == ["published", "done"])
    assert ran == ["a"]

    async with all_of_them.working():  # A worker without TASKS_QUEUES finds all queues.
        await app.settled()
    assert ran == ["a", "b"]


async def test_stream_keeps_nothing_that_was_read(redis_app, redis, redis_prefix):
    app = redis_app

    @app.router.task
    async def work() -> None: ...

    async with Worker(app.broker(), work=True):
        async with app.session() as db:
            for _ in range(30):
                enqueue(db, work)
        await app.settled()
        async with asyncio.timeout(60):  # The remaining messages are of tasks that are done.
            while await redis.xlen(f"{redis_prefix}tasks:default"):  # noqa: ASYNC110 - Redis has no event to wait for
                await asyncio.sleep(0.02)


async def test_commit_wakes_a_worker(make_app, redis_broker):
    app = await make_app(broker_url=redis_broker, poll_interval=600, lease=6000)
    started: asyncio.Queue[None] = asyncio.Queue()

    @app.router.task
    async def work() -> None:
        started.put_nowait(None)

    async with app.working():
        for _ in range(5):  # The first poll may find the first task. The next poll is ten minutes later.
            async with app.session() as db:
                enqueue(db, work)
            await asyncio.wait_for(started.get(), 60)


async def test_lost_message_does_no_harm(redis_app, redis, redis_prefix):
    app = redis_app

    @app.router.task
    async def work(db: TaskSession) -> None:
        await app.effect(db, "worked")

    async with Worker(app.broker(), work=False):
        async with app.session() as db:
            enqueue(db, work)
        await app.until(lambda rows: rows[0].state == "published")
        await redis.delete(f"{redis_prefix}tasks:default")  # This deletes the consumer group too.
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
    async with Worker(broker, work=False):
        async with app.session() as db:
            handle = enqueue(db, work)
        await app.until(lambda rows: rows[0].state == "published")
        await broker._send("default", [message(task_id) for task_id in (handle.task_id, "unheard-of") * 3])
        async with app.working():
            await app.settled()
            async with asyncio.timeout(60):
                while await redis.xlen(f"{redis_prefix}tasks:default"):  # noqa: ASYNC110 - Redis has no event to wait for
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


async def test_one_message_makes_a_worker_run_all_tasks(make_app, redis_broker, monkeypatch):
    """Few messages arrive here, and polls without a message are rare."""
    monkeypatch.setattr("appkit.tasks.publisher.PUBLISH_BATCH", 1)
    app, worker = [await make_app(broker_url=redis_broker, lease=600, poll_interval=60, notify="off") for _ in range(2)]

    @app.router.task
    async def work() -> None: ...

    worker.router = app.router
    async with Worker(app.broker(), work=False), worker.working():
        async with app.session() as db:
            enqueue(db, work)
        await app.settled()
        async with app.session() as db:
            for _ in range(30):
                enqueue(db, work)
        rows = await app.settled()

    assert {(row.state, row.attempts) for row in rows} == {("done", 1)}


async def test_task_is_published_once_however_long_it_waits(make_app, redis_broker, redis, redis_prefix):
    """Otherwise an overloaded worker would get the same messages repeatedly."""
    app = await make_app(broker_url=redis_broker, lease=0.3)

    @app.router.task
    async def work() -> None: ...

    async with Worker(app.broker(), work=False):
        async with app.session() as db:
            for _ in range(30):
                enqueue(db, work)
        await app.until(lambda rows: all(row.state == "published" for row in rows))
        await asyncio.sleep(1)  # Three leases.
    stream = await redis.xinfo_stream(f"{redis_prefix}tasks:default")
    assert (stream["length"], stream["entries-added"]) == (30, 30)


async def test_stale_messages_delay_no_task(redis_app, redis, redis_prefix):
    app = redis_app

    @app.router.task
    async def work() -> None: ...

    for number in range(1000):
        await redis.xadd(f"{redis_prefix}tasks:default", {"data": f"unheard-of-{number}"})
    async with app.session() as db:
        enqueue(db, work)
    async with app.working():
        await app.settled()


async def test_full_worker_leaves_messages_to_others(make_app, redis_broker, redis, redis_prefix):
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
            await redis.xadd(f"{redis_prefix}tasks:default", {"data": f"message-{number}"})
        await asyncio.sleep(0.3)
        assert await redis.xlen(f"{redis_prefix}tasks:default") > 0
        go_on.set()
        await app.settled()


async def test_task_that_can_t_be_published_is_found(make_app, caplog):
    app = await make_app(broker_url=f"redis://127.0.0.1:{1 + os.getpid() % 1000}/0")

    @app.router.task
    async def work() -> None: ...

    async with Worker(app.broker(), work=True) as worker:
        async with app.session() as db:
            enqueue(db, work)
        (row,) = await app.settled()
        assert not worker.healthy

    assert (row.state, row.attempts) == ("done", 1)
    assert "Connection to broker queue 'default' lost" in caplog.text


async def test_message_is_not_lost_while_the_database_fails(redis_app, monkeypatch, caplog):
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
    assert "Polling the outbox failed" in caplog.text
