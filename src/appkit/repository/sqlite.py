"""SQLite: the only connection that writes, PRAGMAs, transactions, and cancelled statements."""

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
    """The pool of SQLite's only connection that writes. If an asyncio task requests it twice, an error is raised."""

    _sqla_logger_namespace = "sqlalchemy.pool.WriterPool"  # Otherwise SQLAlchemy would log as `appkit`.
    _holder: asyncio.Task[Any] | None = None

    def connect(self) -> PoolProxiedConnection:
        """Wait for the connection."""
        task = asyncio.current_task()
        # A context variable is no alternative: a child task would inherit it, but a child may wait for its parent.
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
    """Prepare the connections of an engine. `begin` is the statement that begins a transaction."""
    script = f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys={int(foreign_keys)};"

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        connection.run_async(lambda driver: driver.executescript(script))

    @event.listens_for(engine.sync_engine, "invalidate")
    def on_invalidate(connection: Any, *_: Any) -> None:
        # A cancelled statement continues in its thread. Closing the connection before its end would leave the locks.
        with suppress(Exception, asyncio.CancelledError):
            connection.run_async(lambda driver: asyncio.shield(_abort(driver)))

    @event.listens_for(engine.sync_engine, "reset")
    def on_reset(connection: Any, _: Any, state: PoolResetState) -> None:
        # A failed COMMIT leaves the transaction open, but SQLAlchemy regards the transaction as closed.
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
    """Let the code after the previous session run before BEGIN. If that code blocks the event loop, no lock is held."""
    for _step in range(_STEPS):
        await asyncio.sleep(0)


async def _abort(driver: Any) -> None:
    rollback = asyncio.ensure_future(driver.rollback())
    done, _ = await asyncio.wait([rollback], timeout=_ABORT_TIMEOUT)
    if not done:  # Not earlier: while a cursor is open, `interrupt` would stop the rollback too.
        await driver.interrupt()
    await rollback
