"""One turn of one queue, in its own process: a number of jobs that do nothing, ten at once.

`python benchmarks/queues.py NAME JOBS DATABASE_URL REDIS_URL` prints the jobs per second, start-up not counted.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any
from uuid import uuid4

CONCURRENCY = 10


class Count:
    """Counts jobs, and times the first and the last one."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.started = self.ended = 0.0
        self.done = 0
        self.all_done = asyncio.Event()

    def one(self) -> None:
        """Count a job that has run."""
        self.done += 1
        if self.done == 1:
            self.started = perf_counter()
        if self.done == self.jobs:
            self.ended = perf_counter()
            self.all_done.set()

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return (self.jobs - 1) / (self.ended - self.started)


async def appkit(count: Count, database_url: str, broker_url: str) -> None:
    """Ours: rows written beforehand, run by a relay, each row closed."""
    from appkit.core.settings import Settings
    from appkit.repository.base import Base
    from appkit.repository.database import Database
    from appkit.tasks.broker import create_broker, register_tasks
    from appkit.tasks.router import TaskRouter, enqueue_many
    from appkit.tasks.worker import Worker

    tasks: dict[str, Any] = {"broker_url": broker_url, "concurrency": CONCURRENCY}
    settings = Settings(_env_file=None, database={"url": database_url}, tasks=tasks)
    router = TaskRouter()

    @router.task
    async def nothing(number: int) -> None:  # noqa: ARG001 - every job gets an argument
        count.one()

    database = Database(settings.database)
    async with database.engine.begin() as connection:
        tables = [Base.metadata.tables[name] for name in ("appkit_outbox", "appkit_schedule")]
        await connection.run_sync(lambda sync: Base.metadata.create_all(sync, tables))
    async with database.session() as db:
        await enqueue_many(db, nothing, [(number,) for number in range(count.jobs)])
    broker = create_broker(settings, database=database)
    register_tasks(broker, [router])
    async with Worker(broker, work=True):
        await count.all_done.wait()
    await database.dispose()


async def taskiq(count: Count, _: str, redis_url: str) -> None:
    """Taskiq with its Redis Streams broker, without results."""
    from taskiq.api import run_receiver_task
    from taskiq_redis import RedisStreamBroker

    broker = RedisStreamBroker(redis_url, queue_name=f"bench-{uuid4().hex}", consumer_id="0", maxlen=2 * count.jobs)

    @broker.task
    async def nothing(number: int) -> None:  # noqa: ARG001 - every job gets an argument
        count.one()

    await broker.startup()
    for number in range(count.jobs):
        await nothing.kiq(number)
    worker = asyncio.create_task(run_receiver_task(broker, max_async_tasks=CONCURRENCY))
    await count.all_done.wait()
    worker.cancel()  # Not awaited, because it would listen on.


async def procrastinate(count: Count, database_url: str, _: str) -> None:
    """procrastinate, on PostgreSQL with psycopg."""
    import procrastinate as library

    app = library.App(connector=library.PsycopgConnector(conninfo=database_url))

    @app.task(name="nothing")
    async def nothing(number: int) -> None:  # noqa: ARG001 - every job gets an argument
        count.one()

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await nothing.batch_defer_async(*({"number": number} for number in range(count.jobs)))
        await app.run_worker_async(concurrency=CONCURRENCY, wait=False, install_signal_handlers=False)


async def pgqueuer(count: Count, database_url: str, most: int) -> None:
    """pgqueuer, on PostgreSQL with asyncpg. It claims batches of half its limit."""
    import asyncpg
    from pgqueuer import AsyncpgDriver, PgQueuer, Queries
    from pgqueuer.types import QueueExecutionMode

    driver = AsyncpgDriver(await asyncpg.connect(database_url))
    await Queries(driver).install()
    queue = PgQueuer(driver)

    @queue.entrypoint("nothing")
    async def nothing(_: Any) -> None:
        count.one()

    await Queries(driver).enqueue(["nothing"] * count.jobs, [b"1"] * count.jobs, [0] * count.jobs)
    await queue.run(mode=QueueExecutionMode.drain, batch_size=most // 2, max_concurrent_tasks=most)


async def arq(count: Count, _: str, redis_url: str) -> None:
    """arq, on Redis, with results, which is its default."""
    from arq.connections import RedisSettings, create_pool
    from arq.worker import Worker, func

    async def nothing(_: Any, number: int) -> None:  # noqa: ARG001 - every job gets an argument
        count.one()

    queue = f"bench-{uuid4().hex}"
    pool = await create_pool(RedisSettings.from_dsn(redis_url), default_queue_name=queue)
    for number in range(count.jobs):
        await pool.enqueue_job("nothing", number)
    worker = Worker(
        [func(nothing, name="nothing")],
        redis_pool=pool,
        queue_name=queue,
        burst=True,
        max_jobs=CONCURRENCY,
        handle_signals=False,
    )
    await worker.async_run()
    await worker.close()


RUNS: dict[str, Callable[[Count, str, str], Awaitable[None]]] = {
    "appkit db://": lambda count, database, _: appkit(count, database, "db://"),
    "appkit redis://": lambda count, database, redis: appkit(count, database, f"{redis}?queue=bench-{uuid4().hex}"),
    "taskiq": taskiq,
    "procrastinate": procrastinate,
    "pgqueuer": lambda count, database, _: pgqueuer(count, database, CONCURRENCY),
    "pgqueuer with twenty": lambda count, database, _: pgqueuer(count, database, 2 * CONCURRENCY),
    "arq": arq,
}


async def main(name: str, jobs: str, database_url: str, redis_url: str) -> None:
    """Run one queue, and print its rate as JSON."""
    count = Count(int(jobs))
    await RUNS[name](count, database_url, redis_url)
    print(json.dumps({"rate": count.rate}), flush=True)  # noqa: T201 - the parent process reads it
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
