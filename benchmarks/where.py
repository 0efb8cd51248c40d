"""Sampling profiler: CPU time of one operation, by library: `python benchmarks/where.py create --database sqlite`.

A timer samples every few milliseconds of this process's CPU time, so other programs don't change the result.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import chain
from time import process_time
from types import FrameType

import web
from contenders import ALCHEMY, OURS, PLAIN, Contest
from data import fill, temporary
from measure import Operation
from sqlalchemy import select

from appkit import AppKit, Settings

LIBRARIES = {
    "appkit": "appkit",
    "advanced_alchemy": "Advanced Alchemy",
    "sqlalchemy": "SQLAlchemy",
    "asyncpg": "driver",
    "aiosqlite": "driver",
    "pydantic": "pydantic",
    "fastapi": "FastAPI, Starlette",
    "starlette": "FastAPI, Starlette",
    "asyncio": "asyncio, SQLite's thread",
}
REST = "the rest of Python"
TURNS = 20
"""Operations of one contender before the next one's turn."""


class Sampler:
    """Counts samples by library, for one contender at a time."""

    def __init__(self) -> None:
        self.samples: dict[str, Counter[str]] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._current: Counter[str] = Counter()

    async def run(self, name: str, operation: Operation) -> None:
        """Run some operations of one contender."""
        self._current = self.samples.setdefault(name, Counter())
        start = process_time()
        signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
        for _ in range(TURNS):
            await operation()
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.seconds[name] += process_time() - start

    def look(self, _signal: int, frame: FrameType | None) -> None:
        """Count the innermost library on the stack. Its calls into the standard library count as its work."""
        while frame is not None:
            package = frame.f_globals.get("__name__", "").partition(".")[0]
            if package in LIBRARIES:
                self._current[LIBRARIES[package]] += 1
                return
            frame = frame.f_back
        self._current[REST] += 1

    def table(self, rounds: int) -> str:
        """Microseconds per operation, by library, as a Markdown table."""
        totals = {name: self.seconds[name] / rounds * 1e6 for name in self.samples}
        known = list(dict.fromkeys(chain(LIBRARIES.values(), [REST])))
        lines = [f"| µs of CPU time | {' | '.join(totals)} |", f"|---{'|---' * len(totals)}|"]
        for library in known:
            shares = [found[library] / max(found.total(), 1) for found in self.samples.values()]
            if any(shares):
                cells = [f"{share * total:,.0f}" for share, total in zip(shares, totals.values(), strict=True)]
                lines.append(f"| {library} | {' | '.join(cells)} |")
        return "\n".join([*lines, f"| total | {' | '.join(f'{total:,.0f}' for total in totals.values())} |"])


async def moves(kit: AppKit, what: str) -> Mapping[str, Operation]:
    """The operation, for plain SQLAlchemy, appkit and Advanced Alchemy."""
    async with kit.database.session() as db:
        ident = (await db.scalars(select(kit.database.metadata.tables["book"].c.id).limit(1))).one()
    contest = Contest(kit.database, ident)
    if what == "http":
        return {name: move for name, move in web.requests(kit, contest).items() if name in {web.INLINE, OURS, ALCHEMY}}
    everybody: dict[str, Operation] = getattr(contest, what)()
    return {name: everybody[name] for name in (PLAIN, OURS, ALCHEMY)}


async def run(what: str, kind: str, rounds: int) -> str:
    """Profile one operation, and return the table."""
    sampler = Sampler()
    signal.signal(signal.SIGPROF, sampler.look)
    async with temporary(kind) as url:
        kit = AppKit(Settings(database={"url": url}, environment="test", logging={"level": "ERROR"}), discover=False)
        await kit.database.create_all()
        await fill(kit.database, 2_000)
        found = await moves(kit, what)
        for operation in found.values():
            await operation()
        for _ in range(rounds // TURNS):
            for name, operation in found.items():
                await sampler.run(name, operation)
        await kit.database.dispose()
    return sampler.table(rounds // TURNS * TURNS)


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("move", choices=["get", "create", "update", "http"])
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--rounds", type=int, default=2_000, help="operations of each contender (2,000)")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    sys.stdout.write(asyncio.run(run(options.move, options.database, options.rounds)) + "\n")


if __name__ == "__main__":
    main()
