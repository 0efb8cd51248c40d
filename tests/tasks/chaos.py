"""Chaos test: kills processes at random while they run tasks, and counts lost and repeated effects.

    python -m tests.tasks.chaos --db postgresql://…/empty --kills 20 --instances 3

Run the command in a checkout. The database must be empty, because all tables are dropped at the end. The result is one
line of JSON.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, inspect, select, text

from appkit.core.settings import DatabaseSettings
from appkit.exceptions import AppKitError
from appkit.repository.database import Database
from appkit.repository.outbox import OPEN, OutboxTask

CONCURRENCY: Final = 10
LEASE: Final = 3.0
PATIENCE: Final = 300.0
"""Seconds to wait for the remaining tasks at the end."""
APP: Final = Path(__file__).with_name("chaos_app.py")


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a run."""

    db: str
    broker: str
    instances: int
    kills: int
    committed: int
    lost: int
    """Missing effects of committed orders."""
    phantom: int
    """Effects of orders that were rolled back."""
    together_doubled: int
    """Extra effects in the transaction that marks the task as done."""
    apart_doubled: int
    """Extra effects in a separate transaction."""
    outside_doubled: int
    """Extra effects outside the database."""
    left: int
    """Tasks that have not ended."""
    dead: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the guarantees held. Each kill may repeat as many tasks as one process runs at the same time."""
        broken = self.lost or self.phantom or self.together_doubled or self.left or self.dead
        again = self.apart_doubled + self.outside_doubled
        return not broken and self.committed > 0 and again <= self.kills * CONCURRENCY


class Chaos:
    """One run.

    Args:
        database_url: An empty database.
        instances: Processes that run at the same time.
        broker_url: The value of `TASKS_BROKER_URL`. With a message broker, every second process only writes and
            publishes tasks.
    """

    def __init__(self, database_url: str, *, instances: int = 1, broker_url: str = "db://") -> None:
        self._database_url = database_url
        self._broker_url = broker_url
        self._running: list[subprocess.Popen[bytes] | None] = [None] * instances

    def run(self, kills: int, meanwhile: Callable[[int], None] = lambda _: None) -> Report:
        """Kill processes, let the remaining tasks finish, and count the effects.

        Args:
            kills: How many processes to kill.
            meanwhile: Called after each kill with the number of the kill, to break something else.

        Raises:
            AppKitError: When the database is not empty.
        """
        began = time.monotonic()
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="appkit-chaos-")))
            asyncio.run(self._create())
            stack.callback(lambda: asyncio.run(self._drop()))
            stack.callback(self._kill_all)
            for number in range(kills):
                self._start_missing("produce")
                time.sleep(random.uniform(1.5, 3))
                self._kill(random.randrange(len(self._running)))
                meanwhile(number)
            self._kill_all()
            self._start_missing()
            asyncio.run(self._wait_until_done())
            return asyncio.run(self._count(kills, time.monotonic() - began))

    def _start_missing(self, *roles: str) -> None:
        fresh = []
        for place, process in enumerate(self._running):
            if process is None or process.poll() is not None:
                works = self._broker_url == "db://" or len(self._running) == 1 or place % 2
                command = [sys.executable, str(APP), *roles, *(["work"] if works else [])]
                log = (self._folder / "log").open("ab")
                fresh.append(subprocess.Popen(command, cwd=self._folder, env=self._environment, stdout=log, stderr=log))
                log.close()
                self._running[place] = fresh[-1]
        for process in fresh:
            while not (self._folder / f"up-{process.pid}").exists():
                if process.poll() is not None:
                    raise AppKitError(f"A process ended by itself: {(self._folder / 'log').read_text()[-2000:]}")
                time.sleep(0.05)

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "APP_NAME": "chaos",
            "DATABASE_URL": self._database_url,
            "DATABASE_MIGRATE": "off",
            "ENVIRONMENT": "test",
            "LOGGING_LEVEL": "ERROR",
            "TASKS_BROKER_URL": self._broker_url,
            "TASKS_CONCURRENCY": str(CONCURRENCY),
            "TASKS_LEASE": str(LEASE),
            "TASKS_MAX_ATTEMPTS": "1000",
            "TASKS_RETRY_DELAY": "0.5",
        }

    def _kill(self, place: int) -> None:
        process = self._running[place]
        if process is not None:
            process.kill()
            process.wait()

    def _kill_all(self) -> None:
        for place in range(len(self._running)):
            self._kill(place)

    async def _create(self) -> None:
        from tests.tasks import chaos_app

        database = Database(DatabaseSettings(url=self._database_url))
        async with database.engine.begin() as connection:
            if tables := await connection.run_sync(lambda sync: inspect(sync).get_table_names()):
                raise AppKitError(f"This database has tables, such as {tables[0]}. Give an empty one.")
            await connection.run_sync(chaos_app.kit.database.metadata.create_all)
            await connection.run_sync(chaos_app.METADATA.create_all)
        await database.dispose()

    async def _drop(self) -> None:
        from tests.tasks import chaos_app

        database = Database(DatabaseSettings(url=self._database_url))
        async with database.engine.begin() as connection:
            await connection.run_sync(chaos_app.METADATA.drop_all)
            await connection.run_sync(chaos_app.kit.database.metadata.drop_all)
        await database.dispose()

    async def _wait_until_done(self) -> None:
        database = Database(DatabaseSettings(url=self._database_url))
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            async with database.read_session() as db:
                if not await db.scalar(select(func.count()).select_from(OutboxTask).where(text(OPEN))):
                    break
            self._start_missing()
            await asyncio.sleep(0.2)
        await database.dispose()

    async def _count(self, kills: int, seconds: float) -> Report:
        from tests.tasks import chaos_app

        outside = self._folder / chaos_app.OUTSIDE
        effects = [Counter(outside.read_text().split() if outside.exists() else [])]
        database = Database(DatabaseSettings(url=self._database_url))
        async with database.read_session() as db:
            orders = set(await db.scalars(select(chaos_app.ORDERS.c.id)))
            effects += [Counter(await db.scalars(select(table.c.order_id))) for table in chaos_app.EFFECTS.values()]
            left = await db.scalar(select(func.count()).select_from(OutboxTask).where(text(OPEN)))
            dead = await db.scalar(select(func.count()).select_from(OutboxTask).where(OutboxTask.state == "dead"))
        await database.dispose()
        doubled = [sum(count - 1 for count in each.values()) for each in effects]
        return Report(
            db="sqlite" if database.sqlite else "postgresql",
            broker=self._broker_url.partition(":")[0],
            instances=len(self._running),
            kills=kills,
            committed=len(orders),
            lost=sum(len(orders - each.keys()) for each in effects),
            phantom=sum(len(each.keys() - orders) for each in effects),
            outside_doubled=doubled[0],
            together_doubled=doubled[1],
            apart_doubled=doubled[2],
            left=left or 0,
            dead=dead or 0,
            seconds=round(seconds, 1),
        )


def main() -> None:
    """Run with the command line's options. The exit code is 1 if a guarantee didn't hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.tasks.chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--db", required=True, help="the URL of an empty database")
    parser.add_argument("--broker", default="db://", help="as in TASKS_BROKER_URL")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--instances", type=int, default=1)
    options = parser.parse_args()
    try:
        report = Chaos(options.db, instances=options.instances, broker_url=options.broker).run(options.kills)
    except AppKitError as exc:
        sys.exit(str(exc))
    line: dict[str, Any] = {"ok": report.ok, **asdict(report)}
    print(json.dumps(line))  # noqa: T201 - the command's output
    sys.exit(0 if report.ok else 1)


if __name__ == "__main__":
    main()
