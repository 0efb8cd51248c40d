"""Background tasks beside Taskiq on Redis Streams, procrastinate, pgqueuer and arq, in one interleaved run.

Rates are jobs a second; a ratio above 1 means that ours is quicker. Below its floor, a row fails with `--check`.
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
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import psycopg
from measure import Seconds, interleave
from psycopg import sql
from redis.asyncio import Redis
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, make_url, text

from appkit.core.settings import Settings
from appkit.repository.base import Base, utcnow
from appkit.repository.database import Database
from appkit.repository.queue import TaskQueue
from appkit.tasks.broker import OutboxBroker, create_broker, register_tasks
from appkit.tasks.relay import Relay
from appkit.tasks.router import Task, TaskRouter, enqueue, enqueue_many

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
        """Whether it is at its floor or above."""
        return "ok" if self.ratio >= self.floor else "under"


@contextmanager
def new_database(kind: str) -> Iterator[str]:
    """An empty database, gone at the end."""
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
    """How quickly a queue that is full is worked off, each in a process of its own, in another order each time."""
    turns = [("appkit db://", "sqlite")]
    others = ("appkit db://", "appkit redis://", "taskiq", "procrastinate", "pgqueuer")
    turns += [(name, "postgresql") for name in others]
    turns += [("arq", "postgresql")] if options.arq_python else []
    rates: dict[tuple[str, str], list[float]] = {turn: [] for turn in turns}
    for number in range(options.rounds):
        for turn in turns[number % len(turns) :] + turns[: number % len(turns)]:
            rates[turn].append(drain(*turn, options))
    rate = {turn: median(found) for turn, found in rates.items()}
    ours, redis = rate["appkit db://", "postgresql"], rate["appkit redis://", "postgresql"]
    figure = "{:,.0f}/s beside {:,.0f}/s"
    floors = {"procrastinate": 5.0, "pgqueuer": 0.6, "taskiq": 0.5, "arq": 0.0}
    rows = []
    for name, floor in floors.items():
        if theirs := rate.get((name, "postgresql")):
            rows.append(Row("drain", "postgresql", name, figure.format(ours, theirs), ours / theirs, floor))
    lite, stock = rate["appkit db://", "sqlite"], rate["taskiq", "postgresql"]
    rows.append(Row("drain", "sqlite", "taskiq", figure.format(lite, stock), lite / stock, 0.5))
    rows.append(Row("drain, redis://", "postgresql", "taskiq", figure.format(redis, stock), redis / stock, 0.0))
    return rows


def drain(name: str, kind: str, options: argparse.Namespace) -> float:
    """One turn."""
    python = options.arq_python if name == "arq" else sys.executable
    script = str(Path(__file__).with_name("queues.py"))
    with new_database(kind) as url:
        command = [python, script, name, str(options.jobs), url, REDIS]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    return float(json.loads(done.stdout.splitlines()[-1])["rate"])


class Bench:
    """What measurements in this process share."""

    def __init__(self, url: str) -> None:
        self.database = Database(Settings(_env_file=None, database={"url": url}).database)
        self.settings = Settings(_env_file=None, database={"url": url})
        self.router = TaskRouter()
        self.started: asyncio.Queue[float] = asyncio.Queue()
        self.nothing: Task[..., Any] = self.router.task(name="bench:nothing")(self._nothing)

    async def _nothing(self, number: int) -> None:  # noqa: ARG002 - every job has an argument
        self.started.put_nowait(asyncio.get_running_loop().time())

    async def create(self) -> None:
        """Create the tables."""
        async with self.database.engine.begin() as connection:
            tables = [Base.metadata.tables[name] for name in ("appkit_outbox", "appkit_schedule")]
            await connection.run_sync(lambda sync: Base.metadata.create_all(sync, tables))
            await connection.run_sync(ORDERS.metadata.create_all)

    def broker(self) -> OutboxBroker:
        """A broker that knows the task."""
        broker = create_broker(self.settings, database=self.database)
        register_tasks(broker, [self.router])
        return broker


async def requests(bench: Bench, kind: str, rounds: int) -> list[Row]:
    """What a request pays for a task: a row in its transaction, beside what people do today, and beside nothing."""
    redis = Redis.from_url(REDIS)
    key = f"bench-{uuid4().hex}"

    async def plain() -> None:
        async with bench.database.session() as db:
            await db.execute(insert(ORDERS).values(what="plain"))

    async def outbox() -> None:
        async with bench.database.session() as db:
            await db.execute(insert(ORDERS).values(what="outbox"))
            enqueue(db, bench.nothing, 1)

    async def then_redis() -> None:
        await plain()
        await redis.xadd(key, {"data": json.dumps({"task_id": uuid4().hex, "args": [1], "labels": {}})})

    seconds = await interleave({"plain": plain, "outbox": outbox, "redis": then_redis}, rounds=rounds)
    await redis.delete(key)
    await redis.aclose()
    return [
        compare("request with a task", kind, "commit, then XADD", seconds, "outbox", "redis", 0.8),
        compare("request with a task", kind, "request without", seconds, "outbox", "plain", 0.5),
    ]


async def many(bench: Bench, kind: str) -> list[Row]:
    """A thousand tasks at once, beside a thousand transactions."""

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


async def claims(bench: Bench, kind: str, scheduled: int) -> list[Row]:
    """Taking a task, with many more that wait for their time in the way."""
    queue = TaskQueue(bench.database, bench.settings.tasks)

    async def claim() -> None:
        await queue.claim(["bench:nothing"], limit=1)

    async def fill(count: int, **columns: Any) -> None:
        now = utcnow()
        row = {"task_name": "bench:nothing", "queue": "default", "rank": 0, "payload": {}, "attempts": 0}
        row |= {"cancel_requested": False, "created_at": now, "state": "pending", **columns}
        table = Base.metadata.tables["appkit_outbox"]
        async with bench.database.session() as db:
            for start in range(0, count, 5000):
                rows = [{**row, "task_id": uuid4().hex} for _ in range(min(5000, count - start))]
                await db.execute(insert(table), rows)
            if not bench.database.sqlite:
                await db.execute(text("ANALYZE appkit_outbox"))

    async with bench.database.session() as db:
        await db.execute(Base.metadata.tables["appkit_outbox"].delete())
    await fill(400)
    few = await interleave({"claim": claim}, rounds=100)
    await fill(scheduled, state="scheduled", rank=-100, run_at=utcnow().replace(year=2099))
    full = await interleave({"claim": claim}, rounds=100)
    what = f"claim with {scheduled:,} scheduled"
    return [compare(what, kind, "claim with none", {"few": few["claim"], "full": full["claim"]}, "full", "few", 0.8)]


async def latency(bench: Bench, kind: str) -> list[Row]:
    """From a commit to the start of its task, where a worker has nothing else to do."""
    loop, times = asyncio.get_running_loop(), []
    async with bench.database.session() as db:
        await db.execute(Base.metadata.tables["appkit_outbox"].delete())
    broker = bench.broker()
    async with Relay(broker, work=True):
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


def compare(what: str, kind: str, against: str, seconds: Seconds, ours: str, theirs: str, floor: float) -> Row:
    """A row of two timings, by their first quarters, which other work on the machine disturbs least."""
    mine, other = (sorted(seconds[name])[len(seconds[name]) // 4] * 1000 for name in (ours, theirs))
    return Row(what, kind, against, f"{mine:.2f} ms beside {other:.2f} ms", other / mine, floor)


async def in_process(kind: str, options: argparse.Namespace) -> list[Row]:
    """All that needs no process of its own."""
    with new_database(kind) as url:
        bench = Bench(url)
        await bench.create()
        rows = await requests(bench, kind, options.requests)
        rows += await many(bench, kind)
        rows += await claims(bench, kind, options.scheduled)
        rows += await latency(bench, kind)
        await bench.database.dispose()
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| What | Database | Against | Figures | Ratio | Floor | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        floor = f"{row.floor:.1f}" if row.floor else ""
        verdict = row.verdict if row.floor else ""
        cells = (row.what, row.database, row.against, row.figure, f"{row.ratio:.2f}", floor, verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and, with `--check`, fail below a floor."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--scheduled", type=int, default=200_000)
    parser.add_argument("--arq-python", help="a Python with arq, which needs an older redis than taskiq-redis does")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    rows = drains(options)
    for kind in ("postgresql", "sqlite"):
        rows += asyncio.run(in_process(kind, options))
    print(table(rows))  # noqa: T201 - it is what this is for
    if options.json:
        options.json.write_text(json.dumps([{**asdict(row), "verdict": row.verdict} for row in rows], indent=2) + "\n")
    if options.check and any(row.verdict == "under" for row in rows):
        sys.exit("A row is under its floor.")


if __name__ == "__main__":
    main()
