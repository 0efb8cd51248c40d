"""Where migrations run: on a connection that nobody else migrates on, or in a database that is thrown away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import URL, NullPool, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from appkit.exceptions import AppKitError
from appkit.repository.database import Database
from appkit.repository.engines import create_engine

_LOCK = int.from_bytes(b"appkit")  # Advisory locks are numbers, and belong to one database.
_CONNECT_TIMEOUT = 10.0
_LOCK_NOT_AVAILABLE = "55P03"

T = TypeVar("T")


@asynccontextmanager
async def locked(database: Database, wait: float) -> AsyncIterator[AsyncConnection]:
    """A connection on which one process at a time migrates; its work is committed at the end.

    Args:
        database: The database.
        wait: Seconds to wait for the process that has it now.

    Raises:
        AppKitError: When that one takes longer, when a migration on SQLite leaves rows that refer to nothing, or
            behind a pooler that shares connections, where a lock would stay with whoever comes next.
    """
    if database.sqlite:
        # Alembic alters a table by making it anew, and dropping the old one would delete all that refers to it.
        async with _engine(database.url, wait, foreign_keys=False) as engine, engine.begin() as connection:
            yield connection
            if orphans := (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all():
                raise AppKitError(f"Rows of the table {orphans[0][0]} would refer to nothing. Nothing was changed.")
        return
    async with _engine(database.url) as engine, engine.connect() as guard, engine.connect() as connection:
        # The lock is a session's own, on a connection of its own, for a migration may end its transaction.
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        await _refuse_shared(guard, connection)
        await _acquire(guard, wait)
        yield connection
        await connection.commit()


async def patiently(connection: AsyncConnection, wait: float, work: Callable[..., T], *args: Any) -> T:
    """Run `work`; when others hold a table that it needs, let them pass, and try again.

    Args:
        connection: What `work` is given, as `run_sync` does.
        wait: Seconds in which to try.
        work: What to run.
        args: What else to give it.

    Raises:
        AppKitError: When they hold it for longer.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + wait, 0.1
    while True:
        try:
            return await connection.run_sync(work, *args)
        except DBAPIError as exc:
            if getattr(exc.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            if loop.time() + pause > deadline:
                raise AppKitError(f"Others held a table for {wait:.0f} seconds: {exc.statement}") from exc
        await connection.rollback()
        await asyncio.sleep(pause)
        pause = min(2 * pause, 5.0)


@asynccontextmanager
async def scratch(url: URL) -> AsyncIterator[AsyncConnection]:
    """An empty database of the same kind that is gone afterwards: a temporary file, or on PostgreSQL a schema."""
    if url.get_backend_name() == "sqlite":
        with TemporaryDirectory() as directory:
            file = url.set(database=str(Path(directory) / "scratch.db"))
            async with _engine(file, foreign_keys=False) as engine, engine.connect() as connection:
                yield connection
        return
    name = f"appkit_scratch_{uuid4().hex}"
    async with _engine(url) as engine, engine.connect() as connection:
        await connection.execute(text(f"CREATE SCHEMA {name}"))
        await connection.execute(text(f"SET search_path TO {name}"))
        await connection.commit()
        try:
            yield connection
        finally:
            await connection.rollback()
            await connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
            await connection.commit()


@asynccontextmanager
async def _engine(
    url: URL, timeout: float = _CONNECT_TIMEOUT, *, foreign_keys: bool = True
) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(url, timeout, foreign_keys=foreign_keys, poolclass=NullPool)
    try:
        yield engine
    finally:
        await engine.dispose()


async def _refuse_shared(*connections: AsyncConnection) -> None:
    servers = [await connection.scalar(select(func.pg_backend_pid())) for connection in connections]
    for connection in connections:
        await connection.rollback()
    if len(set(servers)) < len(servers):
        raise AppKitError(
            "Between here and PostgreSQL there is a pooler that gives connections away between transactions, and "
            "migrations need theirs to themselves. Run `appkit db upgrade` with a DATABASE_URL that leads to "
            "PostgreSQL itself, or to a pool by session, and set DATABASE_MIGRATE=check for the app."
        )


async def _acquire(connection: AsyncConnection, wait: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while not await connection.scalar(select(func.pg_try_advisory_lock(_LOCK))):
        if loop.time() > deadline:
            raise AppKitError(f"Another process has been migrating this database for {wait:.0f} seconds.")
        await asyncio.sleep(0.1)
