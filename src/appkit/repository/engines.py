"""Engines: drivers, pools, and how SQLite is set up so that nobody waits in vain or loses a write."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, PoolProxiedConnection, PoolResetState

from appkit.exceptions import AppKitError
from appkit.repository.connections import connect, fall_back

_EXTRAS = {"asyncpg": "postgres", "psycopg": "psycopg"}
_PATIENCE = 0.1  # seconds


def create_engine(
    url: URL,
    timeout: float,
    *,
    begin: str = "BEGIN IMMEDIATE",
    foreign_keys: bool = True,
    statement_timeout: float | None = None,
    primary: URL | None = None,
    **options: Any,
) -> AsyncEngine:
    """An engine with our defaults, for `Database` and for migrations.

    Args:
        url: With an async driver.
        timeout: Seconds to connect, or on SQLite to wait for another process's lock.
        begin: How SQLite's transactions begin.
        foreign_keys: Whether SQLite enforces them.
        statement_timeout: Seconds after which PostgreSQL gives a statement up.
        primary: What to connect to where this is a replica, and can't be reached.
        options: Passed on to SQLAlchemy.
    """
    driver = url.get_driver_name()
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite:
        connect_args: dict[str, Any] = {"timeout": timeout, "isolation_level": None}
    else:
        connect_args = {"timeout": timeout} if driver == "asyncpg" else {"connect_timeout": max(2, round(timeout))}
        if statement_timeout is not None:
            connect_args |= _limit_statements(driver, f"{statement_timeout * 1000:.0f}")
    try:
        engine = create_async_engine(url, hide_parameters=True, connect_args=connect_args, **options)
    except ImportError as exc:
        extra = f" Install it: pip install 'fastapi-appkit[{_EXTRAS[driver]}]'." if driver in _EXTRAS else ""
        raise AppKitError(f"{url.drivername} needs {driver}, which is not installed.{extra}") from exc
    except InvalidRequestError as exc:
        raise AppKitError(
            f"{url.drivername} is not an async driver. Use postgresql+asyncpg://, postgresql+psycopg:// "
            "or sqlite+aiosqlite://."
        ) from exc

    engine.dialect.do_terminate = partial(_terminate, engine.dialect.do_terminate)  # type: ignore[method-assign]
    if primary is None:
        event.listen(engine.sync_engine, "do_connect", connect)
    else:
        fall_back(engine, primary)
    if sqlite:
        _configure_sqlite(engine, begin, foreign_keys=foreign_keys)
    return engine


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


def _terminate(terminate: Callable[[Any], None], connection: Any) -> None:
    """Close a connection that is broken, and let a cancellation wait until it is closed and given back.

    Where it breaks in on the first of these, after a failed ping, SQLAlchemy forgets the second.
    """
    try:
        terminate(connection)
    except asyncio.CancelledError as exc:
        if (task := asyncio.current_task()) is not None:  # It hears of it when it next waits for something.
            task.uncancel()
            task.cancel(*exc.args)


def _limit_statements(driver: str, milliseconds: str) -> dict[str, Any]:
    if driver == "asyncpg":
        return {"server_settings": {"statement_timeout": milliseconds}}
    return {"options": f"-c statement_timeout={milliseconds}"}


def _configure_sqlite(engine: AsyncEngine, begin: str, *, foreign_keys: bool) -> None:
    dialect = engine.sync_engine.dialect
    rollback = dialect.do_rollback

    def roll_back(connection: Any) -> None:
        if connection.driver_connection.in_transaction:  # Else it would wake the driver's thread for nothing.
            rollback(connection)

    dialect.do_rollback = roll_back  # type: ignore[assignment] # There is no event for it.
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
        if state.asyncio_safe and connection.driver_connection.in_transaction:
            connection.rollback()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        query_only = bool(connection.get_execution_options().get("query_only"))
        if connection.info.get("query_only", False) is not query_only:
            connection.exec_driver_sql(f"PRAGMA query_only={int(query_only)}")
            connection.info["query_only"] = query_only
        if not query_only:  # As on PostgreSQL: what only reads has no transaction around it.
            connection.exec_driver_sql(begin)


async def _abort(driver: Any) -> None:
    rollback = asyncio.ensure_future(driver.rollback())
    done, _ = await asyncio.wait([rollback], timeout=_PATIENCE)
    if not done:  # Not at once, for it would hit the rollback too where a cursor is still open.
        await driver.interrupt()
    await rollback
