"""SQLite: the single writing connection, PRAGMAs, transactions, and aborting a cancelled statement."""

import asyncio
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, PoolProxiedConnection, PoolResetState

from appkit.exceptions import AppKitError

_ABORT_TIMEOUT = 0.1  # seconds
_STEPS = 5  # steps of the event loop, from a connection's return until the code after its session has run


class WriterPool(AsyncAdaptedQueuePool):
    """SQLite's one writing connection. An asyncio task that asks for it twice gets an error instead of a deadlock."""

    _sqla_logger_namespace = "sqlalchemy.pool.WriterPool"  # Without it, every disposal is logged with our source lines.
    _holder: asyncio.Task[Any] | None = None

    def connect(self) -> PoolProxiedConnection:
        """Wait for the connection.

        Raises:
            AppKitError: When the same asyncio task holds it.
        """
        task = asyncio.current_task()
        # Not a context variable: a child task inherits it, and may wait until the parent releases the connection.
        if task is not None and task is self._holder:
            raise AppKitError(
                "This asyncio task holds SQLite's writer already, in a session that is still open. Use that session, "
                "or end it before you open another one; to read meanwhile, open a read session."
            )
        connection = super().connect()
        self._holder = task
        return connection

    def _do_return_conn(self, record: Any) -> None:
        self._holder = None
        super()._do_return_conn(record)


def set_up(engine: AsyncEngine, begin: str, *, foreign_keys: bool) -> None:
    """Prepare an engine's connections.

    Args:
        engine: The engine of a SQLite file.
        begin: The statement that begins a transaction.
        foreign_keys: Whether foreign keys are enforced.
    """
    script = f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys={int(foreign_keys)};"

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        connection.run_async(lambda driver: driver.executescript(script))

    @event.listens_for(engine.sync_engine, "invalidate")
    def on_invalidate(connection: Any, *_: Any) -> None:
        # A cancelled statement continues in its thread. Closing the connection meanwhile would leave the locks.
        with suppress(Exception, asyncio.CancelledError):
            connection.run_async(lambda driver: asyncio.shield(_abort(driver)))

    @event.listens_for(engine.sync_engine, "reset")
    def on_reset(connection: Any, _: Any, state: PoolResetState) -> None:
        # A COMMIT that fails leaves the transaction open, but SQLAlchemy regards it as closed.
        if state.asyncio_safe:
            connection.rollback()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        query_only = bool(connection.get_execution_options().get("query_only"))
        if connection.info.get("query_only", False) is not query_only:
            connection.exec_driver_sql(f"PRAGMA query_only={int(query_only)}")
            connection.info["query_only"] = query_only
        if not query_only:  # Read sessions have no transaction, as on PostgreSQL.
            connection.connection.dbapi_connection.run_async(_yield_to_previous)  # type: ignore[union-attr] # adapted
            connection.exec_driver_sql(begin)


async def _yield_to_previous(_: Any) -> None:
    """Let the code after the previous session run first: if it blocks the event loop, the lock is not held yet."""
    for _step in range(_STEPS):
        await asyncio.sleep(0)


async def _abort(driver: Any) -> None:
    rollback = asyncio.ensure_future(driver.rollback())
    done, _ = await asyncio.wait([rollback], timeout=_ABORT_TIMEOUT)
    if not done:  # Not at once: while a cursor is open, `interrupt` would stop the rollback too.
        await driver.interrupt()
    await rollback
