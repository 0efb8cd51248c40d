"""Benchmark of the data layer, beside plain SQLAlchemy, Advanced Alchemy and FastCRUD: `python benchmarks/data.py`.

It reports ratios, because durations depend more on the machine than on the code.
"""

import argparse
import asyncio
import logging
import os
import platform
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import hook
import web
from contenders import ALCHEMY, FASTCRUD, OURS, PLAIN, Book, Contest, Cursor, Leaf, Service
from measure import Operation, Ratio, interleave, ratios, table, write_json
from sqlalchemy import delete, make_url, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from startup import imports, upgrades

from appkit import AppKit, Settings
from appkit.repository.database import Database

SERVER = os.environ.get("APPKIT_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
PACKAGES = ("sqlalchemy", "fastapi", "alembic", "asyncpg", "aiosqlite", "advanced-alchemy", "fastcrud")
PEERS: tuple[tuple[str, str, None], ...] = ((ALCHEMY, PLAIN, None), (FASTCRUD, PLAIN, None))


@dataclass(frozen=True)
class Sizes:
    """The sizes of a run."""

    rows: int
    """Rows in the table."""
    rounds: int
    """Rounds of operations that take about a millisecond; each library has one turn in a round."""
    slow: int
    """Rounds of slower operations."""
    bulk: int
    """Rows of a bulk insert."""


@dataclass(frozen=True)
class Stage:
    """A database, and what a part needs to measure on it."""

    kind: str
    url: str
    kit: AppKit
    contest: Contest
    sizes: Sizes


async def measure(kind: str, url: str, sizes: Sizes, only: str) -> AsyncIterator[list[Ratio]]:
    """Measure the parts that need a database, one after the other."""
    settings = Settings(database={"url": url}, environment="test", logging={"level": "ERROR"})
    kit = AppKit(settings, discover=False)
    try:
        await kit.database.create_all()
        await fill(kit.database, sizes.rows)
        async with kit.database.read_session() as db:
            ident = (await db.scalars(select(Book.id).limit(1))).one()
        stage = Stage(kind, url, kit, Contest(kit.database, ident), sizes)
        for part in (get, create, update, http, pages, cursors, bulk, upgrade, soft_delete):
            if part.__name__.startswith(only):
                yield await part(stage)
    finally:
        await kit.database.dispose()


async def get(stage: Stage) -> list[Ratio]:
    """Get one row by its primary key."""
    kind, rounds = stage.kind, stage.sizes.rounds
    writing = await interleave(stage.contest.get(), rounds=rounds)
    reading = await interleave(stage.contest.get_reading(), rounds=rounds)
    return [
        *ratios("get, write session", kind, writing, (OURS, PLAIN, 1.25), *PEERS),
        *ratios("get, read session", kind, reading, (OURS, PLAIN, 1.10 if kind == "postgresql" else None)),
    ]


async def create(stage: Stage) -> list[Ratio]:
    """Create a row."""
    found = await interleave(stage.contest.create(), rounds=stage.sizes.rounds)
    return ratios("create + commit", stage.kind, found, (OURS, PLAIN, 1.20), (OURS, ALCHEMY, 0.60), *PEERS)


async def update(stage: Stage) -> list[Ratio]:
    """Get a row and update it."""
    found = await interleave(stage.contest.update(), rounds=stage.sizes.rounds)
    return ratios("get + update + commit", stage.kind, found, (OURS, PLAIN, 1.25), (OURS, ALCHEMY, 0.60), *PEERS)


async def http(stage: Stage) -> list[Ratio]:
    """Get one row over HTTP."""
    found = await interleave(web.requests(stage.kit, stage.contest), rounds=stage.sizes.rounds)
    ours = [(OURS, web.INLINE, 1.20), (OURS, ALCHEMY, 0.75), (web.WHOLE, web.INLINE, None)]
    return ratios("HTTP get", stage.kind, found, *ours, (ALCHEMY, web.INLINE, None), (FASTCRUD, web.INLINE, None))


async def pages(stage: Stage) -> list[Ratio]:
    """Read the first page and the total."""
    found = await interleave(stage.contest.page(), rounds=stage.sizes.slow)
    target = 0.15 if stage.kind == "postgresql" else None
    what = f"page 1 + exact total, {stage.sizes.rows:,} rows"
    return ratios(what, stage.kind, found, (OURS, ALCHEMY, target), (OURS, FASTCRUD, None))


async def cursors(stage: Stage) -> list[Ratio]:
    """Read a keyset page near the end, beside the first one."""
    database, row = stage.kit.database, stage.sizes.rows * 9 // 10
    async with database.read_session() as db:
        far = select(Book).order_by(Book.created_at.desc(), Book.id.desc()).offset(row).limit(1)
        book = (await db.scalars(far)).one()
        found = await Service(db).repository.page(Cursor(size=1), Book.created_at <= book.created_at)

    async def read(query: Cursor) -> None:
        async with database.session() as db:
            await Service(db).page(query)

    deep = f"cursor page at row {row:,}"
    first, later = Cursor(), Cursor(cursor=found.next_cursor)
    contenders: dict[str, Operation] = {"cursor page 1": lambda: read(first), deep: lambda: read(later)}
    seconds = await interleave(contenders, rounds=stage.sizes.rounds)
    return ratios(f"page, {stage.sizes.rows:,} rows", stage.kind, seconds, (deep, "cursor page 1", 3.0))


async def bulk(stage: Stage) -> list[Ratio]:
    """Insert many rows at once."""
    database = stage.kit.database

    async def empty() -> None:
        async with database.session() as db:
            await db.execute(delete(Leaf) if database.sqlite else text("TRUNCATE leaf"))

    found = await interleave(stage.contest.fill(stage.sizes.bulk), rounds=stage.sizes.slow, after=empty)
    what = f"create_many, {stage.sizes.bulk:,} rows"
    return ratios(what, stage.kind, found, (OURS, PLAIN, 1.05), (f"{OURS}, mappings", PLAIN, None))


async def upgrade(stage: Stage) -> list[Ratio]:
    """Run `upgrade()` when the database is at head."""
    return await upgrades(stage.kind, stage.url, stage.sizes.slow * 5)


async def soft_delete(stage: Stage) -> list[Ratio]:
    """Get a model without `SoftDelete`, in an app that has one with it. Comes last, because that one stays mapped."""
    reading = stage.contest.get()[OURS]
    with hook.soft_deletion() as turn:
        found = await interleave(
            dict.fromkeys((hook.OURS, hook.EMPTY, hook.NONE), reading), rounds=stage.sizes.rounds * 2, before=turn
        )
    pairs = ((hook.OURS, hook.NONE, 1.02), (hook.EMPTY, hook.NONE, None))
    return ratios("get, soft deletion elsewhere", stage.kind, found, *pairs)


async def fill(database: Database, rows: int) -> None:
    """Fill the table; each row is a second older than the one before."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows)"
    row = "lower(hex(randomblob(16))), 'Title ' || i, i % 500, {0}, {0} FROM n"
    moment = "datetime(1700000000 - i, 'unixepoch') || '.000000'"
    if not database.sqlite:
        numbers = "WITH n AS (SELECT i FROM generate_series(1, CAST(:rows AS integer)) AS s(i))"
        row = "gen_random_uuid(), 'Title ' || i, i % 500, {0}, {0} FROM n"
        moment = "to_timestamp(1700000000 - i)"
    insert = "INSERT INTO book (id, title, pages, created_at, updated_at) {} SELECT {}"
    async with database.session() as db:
        await db.execute(text(insert.format(numbers, row.format(moment))), {"rows": rows})
    # Without VACUUM, counting takes three times as long, with every library.
    engine = database.engine if database.sqlite else database.engine.execution_options(isolation_level="AUTOCOMMIT")
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE" if database.sqlite else "VACUUM ANALYZE"))


@asynccontextmanager
async def temporary(kind: str) -> AsyncIterator[str]:
    """Create a database, yield its URL, and drop it."""
    if kind == "sqlite":
        with TemporaryDirectory() as directory:
            yield f"sqlite+aiosqlite:///{directory}/bench.db"
        return
    server = make_url(SERVER).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
    name = f"appkit_bench_{uuid4().hex}"
    try:
        async with engine.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        async with engine.connect() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        await engine.dispose()


async def run(kinds: list[str], sizes: Sizes, only: str) -> list[Ratio]:
    """Measure everything, and print each part's table as soon as it is done."""
    found = imports(sizes.slow) if "imports".startswith(only) else []
    for kind in kinds:
        async with temporary(kind) as url:
            async for part in measure(kind, url, sizes, only):
                sys.stderr.write(table(part) + "\n")
                found += part
    return found


def main() -> int:
    """Measure and print. With `--check`, exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows in the table (1,000,000)")
    parser.add_argument("--rounds", type=int, default=1_000, help="rounds, in which each library has a turn (1,000)")
    parser.add_argument("--slow", type=int, default=11, help="rounds of slower operations (11)")
    parser.add_argument("--bulk", type=int, default=10_000, help="rows of a bulk insert (10,000)")
    parser.add_argument("--database", action="append", choices=["postgresql", "sqlite"], help="only this database")
    parser.add_argument("--only", default="", help="only parts whose name starts with this, such as http")
    parser.add_argument("--quick", action="store_true", help="check that it runs; the figures mean nothing")
    parser.add_argument("--check", action="store_true", help="fail when a target is missed")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    sizes = Sizes(options.rows, options.rounds, options.slow, options.bulk)
    if options.quick:
        sizes = Sizes(rows=min(options.rows, 2_000), rounds=2, slow=1, bulk=100)
    found = asyncio.run(run(options.database or ["postgresql", "sqlite"], sizes, options.only))
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    sys.stdout.write(f"{', '.join(versions)}\n\n{table(found)}\n")
    if options.json:
        write_json(options.json, found)
    return int(options.check and any(each.verdict == "over" for each in found))


if __name__ == "__main__":
    sys.exit(main())
