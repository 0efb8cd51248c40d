"""Where migrations run: on a connection that holds the migration lock, or in a temporary database."""

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
async def migration_lock(database: Database, wait: float) -> AsyncIterator[AsyncConnection]:
    """A connection to migrate on, for one process at a time. Its transaction is committed when the block ends.

    Args:
        database: The database.
        wait: Seconds to wait for the process that holds the lock.

    Raises:
        AppKitError: When that process takes longer, when a migration on SQLite leaves rows whose foreign key refers to
            no row, or when a pooler shares connections between clients: the next client would still hold the lock.
    """
    if database.sqlite:
        # Alembic alters a table by copying it. Dropping the old table would delete the rows that refer to it.
        async with _engine(database.url, wait, foreign_keys=False) as engine, engine.begin() as connection:
            yield connection
            if orphans := (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all():
                raise AppKitError(
                    f"The migration would leave rows of the table {orphans[0][0]} whose foreign key refers to no row. "
                    "Nothing was changed."
                )
        return
    async with _engine(database.url) as engine, engine.connect() as guard, engine.connect() as connection:
        # A session-level lock on a second connection, because a migration may end its own transaction.
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        await _refuse_shared_connections(guard, connection)
        await _acquire(guard, wait)
        yield connection
        await connection.commit()


async def retry_while_locked(connection: AsyncConnection, wait: float, work: Callable[..., T], *args: Any) -> T:
    """Run `work`, and retry it with exponential backoff while it fails with a lock timeout.

    Args:
        connection: Passed to `work`, by `run_sync`.
        wait: For how many seconds to retry.
        work: The function to run.
        args: The other arguments of `work`.

    Raises:
        AppKitError: When the lock isn't free in time.
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
                raise AppKitError(
                    f"A table was locked by other sessions for {wait:.0f} seconds, at the statement: {exc.statement}. "
                    "End the long transactions that hold it, and migrate again."
                ) from exc
        await connection.rollback()
        await asyncio.sleep(pause)
        pause = min(2 * pause, 5.0)


@asynccontextmanager
async def scratch_database(url: URL) -> AsyncIterator[AsyncConnection]:
    """An empty temporary database of the same kind: a file on SQLite, a schema on PostgreSQL."""
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


async def _refuse_shared_connections(*connections: AsyncConnection) -> None:
    servers = [await connection.scalar(select(func.pg_backend_pid())) for connection in connections]
    for connection in connections:
        await connection.rollback()
    if len(set(servers)) < len(servers):
        raise AppKitError(
            "DATABASE_URL leads to a pooler that shares connections between transactions, such as PgBouncer, and "
            "migrations need a connection of their own. Run `appkit db upgrade` with a DATABASE_URL that leads to "
            "PostgreSQL itself or to a session pool, and set DATABASE_MIGRATE=check for the app."
        )


async def _acquire(connection: AsyncConnection, wait: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while not await connection.scalar(select(func.pg_try_advisory_lock(_LOCK))):
        if loop.time() > deadline:
            raise AppKitError(
                f"Another process has held the migration lock of this database for {wait:.0f} seconds. "
                "Wait until it has migrated, or end it, and try again."
            )
        await asyncio.sleep(0.1)
