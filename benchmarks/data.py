"""What the data layer costs beside plain SQLAlchemy, Advanced Alchemy and FastCRUD: `python benchmarks/data.py`.

All of it is ratios, for microseconds say more about the machine than about the code.
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

import web
from contenders import ALCHEMY, FASTCRUD, OURS, PLAIN, Book, Contest, Cursor, Leaf, Service
from hook import mapped
from measure import Operation, Ratio, Seconds, interleave, ratios, table, write_json
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
    """How much of everything."""

    rows: int
    """In the table."""
    rounds: int
    """In which everybody has a turn."""
    count: int
    """Operations in a turn, of those that take a millisecond."""
    bulk: int
    """Rows that are written at one go."""


async def measure(kind: str, url: str, sizes: Sizes) -> AsyncIterator[list[Ratio]]:
    """All that needs a database, as it is found."""
    settings = Settings(database={"url": url}, environment="test", logging={"level": "ERROR"})
    kit = AppKit(settings, discover=False)
    database = kit.database
    try:
        await database.create_all()
        await fill(database, sizes.rows)
        async with database.read_session() as db:
            ident = (await db.scalars(select(Book.id).limit(1))).one()
        contest = Contest(database, ident)
        yield await one_row(kind, contest, sizes)
        yield await requests(kind, kit, contest, sizes)
        yield await pages(kind, contest, sizes)
        yield await cursors(kind, database, sizes)
        yield await bulk(kind, contest, sizes)
        yield await upgrades(kind, url, sizes.rounds)
        yield await soft_delete(kind, contest, sizes)
    finally:
        await database.dispose()


async def one_row(kind: str, contest: Contest, sizes: Sizes) -> list[Ratio]:
    """One row, read and written."""

    async def seconds(contenders: dict[str, Operation]) -> Seconds:
        return await interleave(contenders, rounds=sizes.rounds, count=sizes.count)

    reading = 1.10 if kind == "postgresql" else None
    return [
        *ratios("get, write session", kind, await seconds(contest.get()), (OURS, PLAIN, 1.25), *PEERS),
        *ratios("get, read session", kind, await seconds(contest.get_reading()), (OURS, PLAIN, reading)),
        *ratios(
            "create + commit",
            kind,
            await seconds(contest.create()),
            (OURS, PLAIN, 1.20),
            (OURS, ALCHEMY, 0.60),
            *PEERS,
        ),
        *ratios(
            "get + update + commit",
            kind,
            await seconds(contest.update()),
            (OURS, PLAIN, 1.25),
            (OURS, ALCHEMY, 0.60),
            *PEERS,
        ),
    ]


async def requests(kind: str, kit: AppKit, contest: Contest, sizes: Sizes) -> list[Ratio]:
    """One row over HTTP."""
    found = await interleave(web.requests(kit, contest), rounds=sizes.rounds, count=sizes.count)
    return ratios(
        "HTTP get",
        kind,
        found,
        (OURS, web.INLINE, 1.20),
        (OURS, ALCHEMY, 0.75),
        (web.WHOLE, web.INLINE, None),
        (ALCHEMY, web.INLINE, None),
        (FASTCRUD, web.INLINE, None),
    )


async def pages(kind: str, contest: Contest, sizes: Sizes) -> list[Ratio]:
    """The first page, and how many rows there are."""
    found = await interleave(contest.page(), rounds=min(sizes.rounds, 9))
    target = 0.15 if kind == "postgresql" else None
    what = f"page 1 + exact total, {sizes.rows:,} rows"
    return ratios(what, kind, found, (OURS, ALCHEMY, target), (OURS, FASTCRUD, None))


async def cursors(kind: str, database: Database, sizes: Sizes) -> list[Ratio]:
    """A page far down, and the first one."""
    async with database.read_session() as db:
        far = select(Book).order_by(Book.created_at.desc(), Book.id.desc()).offset(sizes.rows * 9 // 10).limit(1)
        book = (await db.scalars(far)).one()
        found = await Service(db).repository.page(Cursor(size=1), Book.created_at <= book.created_at)

    async def read(query: Cursor) -> None:
        async with database.session() as db:
            await Service(db).page(query)

    deep = f"cursor page at row {sizes.rows * 9 // 10:,}"
    first, later = Cursor(), Cursor(cursor=found.next_cursor)
    seconds = await interleave(
        {"cursor page 1": lambda: read(first), deep: lambda: read(later)}, rounds=sizes.rounds, count=sizes.count
    )
    return ratios(f"page, {sizes.rows:,} rows", kind, seconds, (deep, "cursor page 1", 3.0))


async def bulk(kind: str, contest: Contest, sizes: Sizes) -> list[Ratio]:
    """Many rows at one go."""

    async def empty() -> None:
        async with contest.database.session() as db:
            await db.execute(delete(Leaf) if contest.database.sqlite else text("TRUNCATE leaf"))

    found = await interleave(contest.fill(sizes.bulk), rounds=min(sizes.rounds, 9), between=empty)
    what = f"create_many, {sizes.bulk:,} rows"
    return ratios(what, kind, found, (OURS, PLAIN, 1.05), (f"{OURS}, mappings", PLAIN, None))


async def soft_delete(kind: str, contest: Contest, sizes: Sizes) -> list[Ratio]:
    """A model without `SoftDelete`, in an app that has one with it. Comes last, for the model stays."""
    with mapped() as turned:
        get = contest.get()[OURS]
        contenders = {"with the hook": turned(get, on=True), "without it": turned(get, on=False)}
        found = await interleave(contenders, rounds=sizes.rounds * 2, count=sizes.count)
    return ratios("get, soft deletion elsewhere", kind, found, ("with the hook", "without it", 1.02))


async def fill(database: Database, rows: int) -> None:
    """The table's rows, each a second older than the one before."""
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
    # A table that nobody has tidied up yet is counted three times as slowly, whoever counts.
    engine = database.engine if database.sqlite else database.engine.execution_options(isolation_level="AUTOCOMMIT")
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE" if database.sqlite else "VACUUM ANALYZE"))


@asynccontextmanager
async def temporary(kind: str) -> AsyncIterator[str]:
    """The URL of a database that is gone afterwards."""
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


async def run(kinds: list[str], sizes: Sizes) -> list[Ratio]:
    """Everything, with a table of each part as soon as it is there."""
    found = imports(min(sizes.rounds, 9))
    print(table(found), flush=True)
    for kind in kinds:
        async with temporary(kind) as url:
            async for part in measure(kind, url, sizes):
                print(table(part), flush=True)
                found += part
    return found


def main() -> int:
    """Measure, print, and say by the exit code whether every target is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="in the table (1,000,000)")
    parser.add_argument("--rounds", type=int, default=25, help="in which each has a turn (25)")
    parser.add_argument("--count", type=int, default=40, help="quick operations in a turn (40)")
    parser.add_argument("--bulk", type=int, default=10_000, help="rows written at one go (10,000)")
    parser.add_argument("--database", action="append", choices=["postgresql", "sqlite"], help="one only")
    parser.add_argument("--quick", action="store_true", help="see whether it runs, not how fast")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    sizes = Sizes(options.rows, options.rounds, options.count, options.bulk)
    if options.quick:
        sizes = Sizes(rows=min(options.rows, 2_000), rounds=2, count=3, bulk=100)
    print(", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]))
    found = asyncio.run(run(options.database or ["postgresql", "sqlite"], sizes))
    print(table(found))
    if options.json:
        write_json(options.json, found)
    return int(any(each.verdict == "over" for each in found))


if __name__ == "__main__":
    sys.exit(main())
