"""Benchmark of background tasks, beside Taskiq on Redis Streams, procrastinate, pgqueuer and arq, in one run.

Rates are jobs per second. A ratio above 1 means that appkit is faster. With `--check`, a row below its floor fails.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import psycopg
from measure import Seconds, interleave
from psycopg import sql
from redis.asyncio import Redis
from sqlalchemy import Column, Integer, MetaData, String, Table, event, func, insert, make_url, select, text
from taskiq_redis import RedisStreamBroker

from appkit.core.settings import Settings
from appkit.repository.base import Base, utcnow
from appkit.repository.database import Database
from appkit.repository.outbox import OPEN, OutboxTask
from appkit.repository.queue import TaskQueue
from appkit.tasks.broker import create_broker, register_tasks
from appkit.tasks.context import TaskContext, TaskSession
from appkit.tasks.outbox_broker import OutboxBroker
from appkit.tasks.router import Task, TaskRouter, enqueue, enqueue_many
from appkit.tasks.worker import Worker

POSTGRES = make_url(os.environ.get("APPKIT_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres"))
REDIS = os.environ.get("APPKIT_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
ORDERS = Table("bench_order", MetaData(), Column("id", Integer, primary_key=True), Column("what", String(50)))


@dataclass(frozen=True)
class Row:
    """One comparison."""

    what: str
    database: str
    against: str
    figure: str
    ratio: float
    floor: float

    @property
    def verdict(self) -> str:
        """`ok`, or `under` its floor."""
        return "ok" if self.ratio >= self.floor else "under"


@contextmanager
def new_database(kind: str) -> Iterator[str]:
    """Create an empty database, yield its URL, and drop it."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/bench.db"
        return
    name = sql.Identifier(f"appkit_bench_{uuid4().hex}")
    with psycopg.connect(POSTGRES.render_as_string(hide_password=False), autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            yield POSTGRES.set(database=name._obj[0]).render_as_string(hide_password=False)  # noqa: SLF001 - its name
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def drains(options: argparse.Namespace) -> list[Row]:
    """Time to run a full queue, each in its own process, in another order every round."""
    turns = [("appkit db://", "sqlite")]
    others = ("appkit db://", "appkit redis://", "taskiq", "procrastinate", "pgqueuer", "pgqueuer with twenty")
    turns += [(name, "postgresql") for name in others]
    turns += [("arq", "postgresql")] if options.arq_python else []
    rates: dict[tuple[str, str], list[float]] = {turn: [] for turn in turns}
    for number in range(options.rounds):
        for turn in turns[number % len(turns) :] + turns[: number % len(turns)]:
            rates[turn].append(drain(*turn, options))
    rate = {turn: median(found) for turn, found in rates.items()}
    ours, redis = rate["appkit db://", "postgresql"], rate["appkit redis://", "postgresql"]
    figure = "{:,.0f}/s beside {:,.0f}/s"
    floors = {"procrastinate": 5.0, "pgqueuer": 0.6, "pgqueuer with twenty": 0.6, "taskiq": 0.5, "arq": 0.0}
    rows = []
    for name, floor in floors.items():
        if theirs := rate.get((name, "postgresql")):
            rows.append(Row("drain", "postgresql", name, figure.format(ours, theirs), ours / theirs, floor))
    lite, stock = rate["appkit db://", "sqlite"], rate["taskiq", "postgresql"]
    rows.append(Row("drain", "sqlite", "taskiq", figure.format(lite, stock), lite / stock, 0.5))
    rows.append(Row("drain, redis://", "postgresql", "taskiq", figure.format(redis, stock), redis / stock, 0.6))
    return rows


def drain(name: str, kind: str, options: argparse.Namespace) -> float:
    """Run one turn, and return its rate."""
    python = options.arq_python if name == "arq" else sys.executable
    script = str(Path(__file__).with_name("queues.py"))
    with new_database(kind) as url:
        command = [python, script, name, str(options.jobs), url, REDIS]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    return float(json.loads(done.stdout.splitlines()[-1])["rate"])


class Bench:
    """The database, the tasks and the settings that the measurements in this process share."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database(Settings(_env_file=None, database={"url": url}).database)
        self.settings = Settings(_env_file=None, database={"url": url})
        self.router = TaskRouter()
        self.started: asyncio.Queue[float] = asyncio.Queue()
        self.nothing: Task[..., Any] = self.router.task(name="bench:nothing")(self._nothing)
        self.together: Task[..., Any] = self.router.task(name="bench:together")(self._together)
        self.apart: Task[..., Any] = self.router.task(name="bench:apart")(self._apart)

    async def _nothing(self, number: int) -> None:  # noqa: ARG002 - every job gets an argument
        self.started.put_nowait(asyncio.get_running_loop().time())

    async def _together(self, number: int, db: TaskSession) -> None:
        await db.execute(insert(ORDERS).values(what=f"together {number}"))

    async def _apart(self, number: int, task: TaskContext) -> None:
        async with task.session() as db:
            await db.execute(insert(ORDERS).values(what=f"apart {number}"))

    async def create(self) -> None:
        """Create the tables."""
        async with self.database.engine.begin() as connection:
            tables = [Base.metadata.tables[name] for name in ("appkit_outbox", "appkit_schedule")]
            await connection.run_sync(lambda sync: Base.metadata.create_all(sync, tables))
            await connection.run_sync(ORDERS.metadata.create_all)

    async def clear(self) -> None:
        """Delete all tasks."""
        async with self.database.session() as db:
            await db.execute(Base.metadata.tables["appkit_outbox"].delete())

    async def fill(self, count: int, **columns: Any) -> None:
        """Write tasks."""
        row = {"task_name": "bench:nothing", "queue": "default", "rank": 0, "payload": {}, "attempts": 0}
        row |= {"cancel_requested": False, "created_at": utcnow(), "state": "pending", **columns}
        table = Base.metadata.tables["appkit_outbox"]
        async with self.database.session() as db:
            for start in range(0, count, 5000):
                rows = [{**row, "task_id": uuid4().hex} for _ in range(min(5000, count - start))]
                await db.execute(table.insert(), rows)
            if not self.database.sqlite:
                await db.execute(text("ANALYZE appkit_outbox"))

    def broker(self, **tasks: Any) -> OutboxBroker:
        """A broker with the tasks registered."""
        settings = Settings(_env_file=None, database={"url": self.url}, tasks=tasks)
        broker = create_broker(settings, database=self.database)
        register_tasks(broker, [self.router])
        return broker


async def requests(bench: Bench, kind: str, options: argparse.Namespace) -> list[Row]:
    """A request that enqueues a task, beside commit and then `kiq()`, and beside a request without a task."""
    stock = RedisStreamBroker(REDIS, queue_name=f"bench-{uuid4().hex}", maxlen=1000)

    @stock.task
    async def nothing(number: int) -> None: ...

    await stock.startup()

    async def plain() -> None:
        async with bench.database.session() as db:
            await db.execute(insert(ORDERS).values(what="plain"))

    async def outbox() -> None:
        async with bench.database.session() as db:
            await db.execute(insert(ORDERS).values(what="outbox"))
            enqueue(db, bench.nothing, 1)

    async def then_kiq() -> None:
        await plain()
        await nothing.kiq(1)

    contenders = {"plain": plain, "outbox": outbox, "kiq": then_kiq}
    seconds = await interleave(contenders, rounds=options.requests)
    async with Redis(connection_pool=stock.connection_pool) as redis:
        await redis.delete(stock.queue_name)
    await stock.shutdown()
    return [
        compare("request with a task", kind, "commit, then Taskiq's kiq()", seconds, "outbox", "kiq", 0.8),
        compare("request with a task", kind, "request without", seconds, "outbox", "plain", 0.5),
    ]


async def many(bench: Bench, kind: str, _: argparse.Namespace) -> list[Row]:
    """`enqueue_many` of a thousand tasks, beside a thousand transactions."""

    async def at_once() -> None:
        async with bench.database.session() as db:
            await enqueue_many(db, bench.nothing, [(number,) for number in range(1000)])

    async def one_by_one() -> None:
        for number in range(100):
            async with bench.database.session() as db:
                enqueue(db, bench.nothing, number)

    seconds = await interleave({"many": at_once, "one": one_by_one}, rounds=5)
    seconds["one"] = [10 * each for each in seconds["one"]]
    return [compare("enqueue_many of 1,000", kind, "1,000 times enqueue", seconds, "many", "one", 10)]


async def claims(bench: Bench, kind: str, options: argparse.Namespace) -> list[Row]:
    """Claiming a task, in a database with many scheduled tasks, beside one with none."""
    with new_database(kind) as url:
        empty = Bench(url)
        await empty.create()
        await empty.fill(400)
        await bench.clear()
        await bench.fill(400)
        await bench.fill(options.scheduled, state="scheduled", rank=-100, run_at=utcnow().replace(year=2099))
        queues = {"few": TaskQueue(empty.database, empty.settings.tasks)}
        queues["full"] = TaskQueue(bench.database, bench.settings.tasks)
        contenders = {name: partial(queue.claim, ["bench:nothing"], limit=1) for name, queue in queues.items()}
        seconds = await interleave(contenders, rounds=100)
        await empty.database.dispose()
    await bench.clear()
    what = f"claim with {options.scheduled:,} scheduled"
    return [compare(what, kind, "claim with none", seconds, "full", "few", 0.8)]


async def sessions(bench: Bench, kind: str, options: argparse.Namespace) -> list[Row]:
    """Tasks that write by their `TaskSession`, beside tasks that open a session."""

    async def work(task: Task[..., Any]) -> None:
        async with bench.database.session() as db:
            await enqueue_many(db, task, [(number,) for number in range(options.jobs // 10)])
        async with Worker(bench.broker(), work=True):
            while await _open(bench):  # noqa: ASYNC110 - only the database knows
                await asyncio.sleep(0.01)
        await bench.clear()

    contenders = {"together": partial(work, bench.together), "apart": partial(work, bench.apart)}
    seconds = await interleave(contenders, rounds=options.rounds, warmup=1)
    return [compare("tasks that write, by TaskSession", kind, "own session", seconds, "together", "apart", 0.9)]


async def _open(bench: Bench) -> int:
    statement = select(func.count()).select_from(OutboxTask).where(text(OPEN))
    async with bench.database.read_session() as db:
        return await db.scalar(statement) or 0


async def latency(bench: Bench, kind: str, _: argparse.Namespace) -> list[Row]:
    """From the commit to the start of the task, with an idle worker."""
    loop, times = asyncio.get_running_loop(), []
    await bench.clear()
    broker = bench.broker()
    async with Worker(broker, work=True):
        await asyncio.sleep(0.5)
        for _ in range(30):
            async with bench.database.session() as db:
                enqueue(db, bench.nothing, 1)
            committed = loop.time()
            broker.wake()
            times.append(await bench.started.get() - committed)
            await asyncio.sleep(0.02)
    milliseconds = median(times) * 1000
    return [Row("commit to start", kind, "20 ms", f"{milliseconds:.1f} ms", 20 / milliseconds, 1.0)]


async def idle(bench: Bench, kind: str, options: argparse.Namespace) -> list[Row]:
    """Queries per second of an idle worker, after its first twenty seconds."""
    asked: list[str] = []
    await bench.clear()
    for engine in bench.database.engines:
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *about: asked.append(about[2]))
    async with Worker(bench.broker(), work=True):
        await asyncio.sleep(20)
        asked.clear()
        await asyncio.sleep(options.idle)
        queries = [statement for statement in asked if not statement.startswith("BEGIN")]
    rate, limit = len(queries) / options.idle, 2.0 if kind == "sqlite" else 0.2
    return [Row("idle worker", kind, f"{limit:g}/s", f"{rate:.2f} queries/s", limit / max(rate, 1e-9), 1.0)]


async def redelivery(bench: Bench, kind: str, options: argparse.Namespace) -> list[Row]:
    """From the claim of a worker that dies to the start in another one, with no other tasks."""
    rows, lease = [], 6.0
    for url in ("db://", f"{REDIS}?queue=bench-{uuid4().hex}"):
        times = []
        for _ in range(options.rounds):
            broker = bench.broker(broker_url=url, lease=lease)
            async with bench.database.session() as db:
                enqueue(db, bench.nothing, 1)
            await TaskQueue(bench.database, broker.settings.tasks).claim(["bench:nothing"])
            claimed = asyncio.get_running_loop().time()
            async with Worker(broker, work=True):
                times.append(await bench.started.get() - claimed)
            await bench.clear()
        what = f"redelivery, {url.partition(':')[0]}://"
        rows.append(
            Row(what, kind, f"1.5 leases of {lease:g} s", f"{median(times):.1f} s", 1.5 * lease / median(times), 1)
        )
    return rows


def compare(what: str, kind: str, against: str, seconds: Seconds, ours: str, theirs: str, floor: float) -> Row:
    """A row of two timings, by their first quartiles, because other programs disturb these least."""
    mine, other = (sorted(seconds[name])[len(seconds[name]) // 4] * 1000 for name in (ours, theirs))
    return Row(what, kind, against, f"{mine:.2f} ms beside {other:.2f} ms", other / mine, floor)


PARTS = {
    "requests": requests,
    "many": many,
    "claims": claims,
    "sessions": sessions,
    "latency": latency,
    "idle": idle,
    "redelivery": redelivery,
}
"""The parts that run in this process."""


async def in_process(kind: str, options: argparse.Namespace) -> list[Row]:
    """Run the selected parts on one database."""
    rows = []
    with new_database(kind) as url:
        bench = Bench(url)
        await bench.create()
        for name, part in PARTS.items():
            if options.only in {None, name}:
                rows += await part(bench, kind, options)
        await bench.database.dispose()
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| What | Database | Against | Figures | Ratio | Floor | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        floor = f"{row.floor:.1f}" if row.floor else ""
        verdict = row.verdict if row.floor else ""
        cells = (row.what, row.database, row.against, row.figure, f"{row.ratio:.2f}", floor, verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print. With `--check`, exit with 1 if a row is below its floor."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--scheduled", type=int, default=200_000)
    parser.add_argument("--idle", type=float, default=40, help="seconds to observe an idle worker")
    parser.add_argument("--only", choices=["drains", *PARTS])
    parser.add_argument("--arq-python", help="a Python with arq, which needs an older redis than taskiq-redis does")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    rows = drains(options) if options.only in {None, "drains"} else []
    for kind in ("postgresql", "sqlite"):
        rows += asyncio.run(in_process(kind, options))
    print(table(rows))  # noqa: T201 - the result
    if options.json:
        options.json.write_text(json.dumps([{**asdict(row), "verdict": row.verdict} for row in rows], indent=2) + "\n")
    if options.check and any(row.verdict == "under" for row in rows):
        sys.exit("A row is under its floor.")


if __name__ == "__main__":
    main()
