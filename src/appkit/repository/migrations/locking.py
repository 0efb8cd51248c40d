"""The migration lock: one process at a time migrates a database."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from appkit.exceptions import AppKitError
from appkit.repository.database import Database
from appkit.repository.engines import CONNECT_TIMEOUT, unpooled_engine

_LOCK = int.from_bytes(b"appkit")  # The number of the advisory lock. Each database has its own locks.
_LOCK_NOT_AVAILABLE = "55P03"

T = TypeVar("T")


async def run_locked(database: Database, wait: float, work: Callable[..., T], *args: Any) -> T:
    """Run `work(connection, *args)` and commit, in one process at a time. Retry with backoff after a lock timeout.

    Raises:
        AppKitError: When a lock isn't free within `wait` seconds, when a migration on SQLite leaves rows whose foreign
            key refers to no row, or when a pooler shares connections between clients.
    """
    async with _locked_connection(database, wait) as connection:
        deadline, pause = monotonic() + wait, 0.1
        while True:
            try:
                return await connection.run_sync(work, *args)
            except DBAPIError as exc:
                if getattr(exc.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                    raise
                if monotonic() + pause > deadline:
                    raise AppKitError(
                        f"A table was locked by other sessions for {wait:.0f} seconds, at the statement: "
                        f"{exc.statement}. End the long transactions that hold it, and migrate again."
                    ) from exc
            await connection.rollback()
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)


@asynccontextmanager
async def _locked_connection(database: Database, wait: float) -> AsyncIterator[AsyncConnection]:
    if database.sqlite:
        # Alembic alters a table by copying it. Dropping the old table would delete the rows that refer to it.
        async with unpooled_engine(database.url, wait, foreign_keys=False).begin() as connection:
            yield connection
            if orphans := (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all():
                raise AppKitError(
                    f"The migration would leave rows of the table {orphans[0][0]} whose foreign key refers to no row. "
                    "Nothing was changed."
                )
        return
    engine = unpooled_engine(database.url, CONNECT_TIMEOUT)
    async with engine.connect() as guard, engine.connect() as connection:
        # A second connection holds the lock, because a migration may end the transaction of the first one.
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        await _refuse_shared_connections(guard, connection)
        deadline = monotonic() + wait
        while not await guard.scalar(select(func.pg_try_advisory_lock(_LOCK))):
            if monotonic() > deadline:
                raise AppKitError(
                    f"Another process has held the migration lock of this database for {wait:.0f} seconds. "
                    "Wait until it has migrated, or end it, and try again."
                )
            await asyncio.sleep(0.1)
        yield connection
        await connection.commit()


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
