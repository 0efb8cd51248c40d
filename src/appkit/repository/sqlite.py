"""SQLite: how it is set up so that nobody waits in vain or loses a write, and its driver's thread is left alone."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection, AsyncAdapt_aiosqlite_cursor
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, PoolProxiedConnection, PoolResetState

from appkit.exceptions import AppKitError
from appkit.repository.connections import connect

_PATIENCE = 0.1  # seconds
_STEPS = 5  # of the event loop, from the return of a connection until the code after its session has gone on


class WriterPool(AsyncAdaptedQueuePool):
    """SQLite's one writing connection. Who asks for it twice would wait for themselves, so they are told."""

    _sqla_logger_namespace = "sqlalchemy.pool.WriterPool"  # Else it says, with our lines, whenever it is disposed of.
    _holder: asyncio.Task[Any] | None = None

    def connect(self) -> PoolProxiedConnection:
        """Wait for it.

        Raises:
            AppKitError: When the same asyncio task holds it.
        """
        task = asyncio.current_task()
        # Not a context variable: child tasks inherit those, and may well wait for their parent to finish.
        if task is not None and task is self._holder:
            raise AppKitError(
                "This task holds SQLite's writer already, in a session that is still open. Use that session, "
                "or end it before you open another one; to read beside it, use a read session."
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
        engine: Of a SQLite file.
        begin: How its transactions begin.
        foreign_keys: Whether they are enforced.
    """
    event.listen(engine.sync_engine, "do_connect", _connect)
    script = f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys={int(foreign_keys)};"

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        connection.run_async(lambda driver: driver.executescript(script))

    @event.listens_for(engine.sync_engine, "invalidate")
    def on_invalidate(connection: Any, *_: Any) -> None:
        # A cancelled statement goes on in its thread, and SQLite keeps the locks of a connection closed meanwhile.
        with suppress(Exception, asyncio.CancelledError):
            connection.run_async(lambda driver: asyncio.shield(_abort(driver)))

    @event.listens_for(engine.sync_engine, "reset")
    def on_reset(connection: Any, _: Any, state: PoolResetState) -> None:
        # A COMMIT that fails leaves the transaction open, and SQLAlchemy takes it for closed.
        if state.asyncio_safe:
            connection.rollback()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        query_only = bool(connection.get_execution_options().get("query_only"))
        if connection.info.get("query_only", False) is not query_only:
            connection.exec_driver_sql(f"PRAGMA query_only={int(query_only)}")
            connection.info["query_only"] = query_only
        if not query_only:  # As on PostgreSQL: what only reads has no transaction around it.
            connection.connection.dbapi_connection.run_async(_let_go_on)  # type: ignore[union-attr] # it is adapted
            connection.exec_driver_sql(begin)


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    """SQLAlchemy's, which goes to the driver's thread once for each statement and once for its rows.

    Its own goes there to open a cursor and to close it too, half of what a short statement costs. SQLite needs neither:
    a cursor whose rows are read holds nothing.
    """

    __slots__ = ()
    _awaitable_cursor_close = False

    def _make_new_cursor(self, connection: Any) -> Any:
        return connection

    def _aenter_cursor(self, cursor: Any) -> Any:
        return cursor

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        async with self._adapt_connection._execute_mutex:  # noqa: SLF001 - as the method that this replaces
            self._cursor = await self._connection.execute(operation, parameters)
            if self._cursor.description:
                self._rows = deque(await self._cursor.fetchall())

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        async with self._adapt_connection._execute_mutex:  # noqa: SLF001 - as above
            self._cursor = await self._connection.executemany(operation, seq_of_parameters)

    def close(self) -> None:
        self._rows.clear()


class _Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()
    _cursor_cls = _Cursor

    def rollback(self) -> None:
        if self.driver_connection.in_transaction:  # Else it would wake the driver's thread for nothing.
            super().rollback()


def _connect(*about: Any) -> _Connection:
    made = connect(*about)
    return _Connection(made.dbapi, made.driver_connection)


async def _let_go_on(_: Any) -> None:
    """Let whoever had the connection before go on first: should they hold up the event loop, nobody has the lock."""
    for _step in range(_STEPS):
        await asyncio.sleep(0)


async def _abort(driver: Any) -> None:
    rollback = asyncio.ensure_future(driver.rollback())
    done, _ = await asyncio.wait([rollback], timeout=_PATIENCE)
    if not done:  # Not at once, for it would hit the rollback too where a cursor is still open.
        await driver.interrupt()
    await rollback
