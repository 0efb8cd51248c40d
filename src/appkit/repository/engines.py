"""Engines: driver options, health checks of pooled connections, and the fallback from a replica to the primary.

Also temporary databases, in which migrations are checked.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any
from uuid import uuid4

from sqlalchemy import URL, NullPool, event, text
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from appkit.exceptions import AppKitError, ServiceUnavailableException
from appkit.repository.sqlalchemy_internals import with_short_cursors
from appkit.repository.sqlite import set_up

CONNECT_TIMEOUT = 10.0  # seconds to wait for a connection without a pool
_EXTRAS = {"asyncpg": "postgres", "psycopg": "psycopg"}
_REPLICA_RETRY = 10.0  # seconds until an unreachable replica is tried again
_PING_AFTER = 0.5  # seconds without use before a connection is pinged, like HikariCP's aliveBypassWindowMs

_logger = logging.getLogger(__name__)

statements: ContextVar[Counter[str] | None] = ContextVar("appkit_statements", default=None)
"""How often each statement ran in the current request. None if statements are not counted."""


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
    """An engine with appkit's defaults, for `Database` and for migrations.

    Args:
        url: The database's URL, with an async driver.
        timeout: Seconds to wait for a connection, or on SQLite for a lock of another process.
        begin: The statement that begins a transaction on SQLite.
        foreign_keys: Whether SQLite enforces foreign keys.
        statement_timeout: Seconds after which PostgreSQL cancels a statement.
        primary: The database to use while this database, a replica, can't be reached.
        options: Options of SQLAlchemy's `create_async_engine`.
    """
    driver = url.get_driver_name()
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite:
        connect_args: dict[str, Any] = {"timeout": timeout, "isolation_level": None}
    else:
        connect_args = {"timeout": timeout} if driver == "asyncpg" else {"connect_timeout": max(2, round(timeout))}
        if statement_timeout is not None:
            milliseconds = f"{statement_timeout * 1000:.0f}"
            if driver == "asyncpg":
                connect_args["server_settings"] = {"statement_timeout": milliseconds}
            else:
                connect_args["options"] = f"-c statement_timeout={milliseconds}"
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

    engine.dialect.do_terminate = partial(_terminate, engine.dialect.do_terminate)  # type: ignore[method-assign] # For this engine only.
    if sqlite:
        event.listen(engine.sync_engine, "do_connect", lambda *args: with_short_cursors(_connect(*args)))
        set_up(engine, begin, foreign_keys=foreign_keys)
        return engine
    _check_on_checkout(engine, always=primary is not None)
    if primary is None:
        event.listen(engine.sync_engine, "do_connect", _connect)
    else:
        _fall_back(engine, primary)
    return engine


unpooled_engine = partial(create_engine, poolclass=NullPool)
"""`create_engine` without a pool. The engine needs no `dispose()`."""


@asynccontextmanager
async def scratch_database(url: URL) -> AsyncIterator[AsyncConnection]:
    """An empty temporary database: a file on SQLite, a schema on PostgreSQL."""
    if url.get_backend_name() == "sqlite":
        with TemporaryDirectory() as directory:
            file = url.set(database=str(Path(directory) / "scratch.db"))
            async with unpooled_engine(file, CONNECT_TIMEOUT, foreign_keys=False).connect() as connection:
                yield connection
        return
    name = f"appkit_scratch_{uuid4().hex}"
    async with unpooled_engine(url, CONNECT_TIMEOUT).connect() as connection:
        await connection.execute(text(f"CREATE SCHEMA {name}"))
        await connection.execute(text(f"SET search_path TO {name}"))
        await connection.commit()
        try:
            yield connection
        finally:
            await connection.rollback()
            await connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
            await connection.commit()


def count_statements(engine: AsyncEngine) -> None:
    """Count the statements that run on this engine while `statements` has a counter."""

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def on_execute(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        counter = statements.get()
        if counter is not None and not statement.startswith(("BEGIN", "PRAGMA")):
            counter[statement] += 1


def _connect(dialect: Any, _: Any, args: Any, kwargs: Any) -> Any:
    """Open a connection, as SQLAlchemy does by default, and translate the error."""
    # psycopg closes an unfinished connection when its last reference is gone. A traceback could keep a reference.
    try:
        return dialect.connect(*args, **kwargs)
    except (OSError, dialect.loaded_dbapi.Error) as exc:  # Elsewhere, an OSError may be an error of the app.
        raise ServiceUnavailableException from exc.with_traceback(None)
    except asyncio.CancelledError as exc:
        raise exc.with_traceback(None) from None


def _terminate(terminate: Callable[[Any], None], connection: Any) -> None:
    """Close a broken connection. Postpone a cancellation that arrives meanwhile.

    Without this delay, SQLAlchemy would not return the connection to the pool.
    """
    try:
        terminate(connection)
    except asyncio.CancelledError as exc:
        if (task := asyncio.current_task()) is not None:  # Cancel the task again, at its next await.
            task.uncancel()
            task.cancel(*exc.args)


def _check_on_checkout(engine: AsyncEngine, *, always: bool) -> None:
    """Check that a pooled connection of PostgreSQL is alive before it is used again.

    A ping costs up to three round trips. Without `always`, a connection that was used a moment ago isn't pinged.
    """
    dialect = engine.sync_engine.dialect

    @event.listens_for(engine.sync_engine, "checkin")
    def on_checkin(_: Any, record: Any) -> None:
        record.info["used"] = monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def on_checkout(connection: Any, record: Any, _: Any) -> None:
        if "used" not in record.info:
            return  # The connection is new.
        try:
            idle = monotonic() - record.info["used"]
            if always or idle > _PING_AFTER or _has_unread_data(connection.driver_connection):
                dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as exc:
            if dialect.is_disconnect(exc, connection, None):
                raise InvalidatePoolError from exc
            raise


def _fall_back(replica: AsyncEngine, primary: URL) -> None:
    """Connect to the primary while the replica can't be reached. Try the replica again every ten seconds."""
    down_until = 0.0

    @event.listens_for(replica.sync_engine, "do_connect")
    def on_connect(dialect: Any, record: Any, args: Any, kwargs: Any) -> Any:
        nonlocal down_until
        if monotonic() >= down_until:
            if down_until:  # Only this caller tries the replica. The others use the primary.
                down_until = monotonic() + _REPLICA_RETRY
            try:
                connection = _connect(dialect, record, args, kwargs)
            except ServiceUnavailableException:
                _logger.warning(
                    "A replica can't be reached; reading from the primary for %s s.", _REPLICA_RETRY, exc_info=True
                )
                down_until = monotonic() + _REPLICA_RETRY
            else:
                down_until = 0.0
                return connection
        record.info["primary_until"] = down_until
        timeouts = {name: value for name, value in kwargs.items() if name in {"timeout", "connect_timeout"}}
        own_args, own_kwargs = dialect.create_connect_args(primary)
        return _connect(dialect, record, own_args, {**timeouts, **own_kwargs})

    @event.listens_for(replica.sync_engine, "checkout")
    def on_checkout(_: Any, record: Any, *__: Any) -> None:
        if record.info.get("primary_until", math.inf) < monotonic():
            raise DisconnectionError  # The pool connects again.


def _has_unread_data(driver: Any) -> bool:
    """Whether the server has closed the connection. asyncpg knows this; the socket of psycopg has unread data."""
    if hasattr(driver, "is_closed"):
        return bool(driver.is_closed())
    with DefaultSelector() as selector:
        selector.register(driver.fileno(), EVENT_READ)
        return bool(selector.select(0))
