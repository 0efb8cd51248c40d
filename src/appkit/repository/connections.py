"""Connections: how they are made, when they are checked, and what is connected to while a replica can't be reached."""

import asyncio
import logging
import math
from selectors import EVENT_READ, DefaultSelector
from time import monotonic
from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine

from appkit.exceptions import ServiceUnavailableException

_PATIENCE = 10.0  # seconds
_TRUST = 0.5  # seconds; as long as HikariCP's pool, whose aliveBypassWindowMs it is

_logger = logging.getLogger(__name__)


def connect(dialect: Any, _: Any, args: Any, kwargs: Any) -> Any:
    """A connection of the driver's: what SQLAlchemy does by itself, with failures that say what they are.

    Raises:
        ServiceUnavailableException: When the database can't be reached.
    """
    # psycopg closes what it was connecting once nobody holds it; a traceback does, and SQLAlchemy puts it in a cycle.
    try:
        return dialect.connect(*args, **kwargs)
    except (OSError, dialect.loaded_dbapi.Error) as exc:  # Here, for elsewhere an OSError may be the app's own.
        raise ServiceUnavailableException from exc.with_traceback(None)
    except asyncio.CancelledError as exc:
        raise exc.with_traceback(None) from None


def check(engine: AsyncEngine, *, always: bool) -> None:
    """See that a connection is alive before it is used again, at the price of up to three round trips.

    One that was used a moment ago is only looked at, which costs none.

    Args:
        engine: Of PostgreSQL.
        always: Ask it even then, for there is another server to go to.
    """
    dialect = engine.sync_engine.dialect

    @event.listens_for(engine.sync_engine, "checkin")
    def on_checkin(_: Any, record: Any) -> None:
        record.info["used"] = monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def on_checkout(connection: Any, record: Any, _: Any) -> None:
        if "used" not in record.info:
            return  # It is new.
        try:
            idle = monotonic() - record.info["used"]
            if always or idle > _TRUST or _has_news(connection.driver_connection):
                dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as exc:
            if dialect.is_disconnect(exc, connection, None):
                raise InvalidatePoolError from exc
            raise


def fall_back(replica: AsyncEngine, primary: URL) -> None:
    """Connect to the primary while the replica can't be reached, and look for it again every ten seconds."""
    down_until = 0.0

    @event.listens_for(replica.sync_engine, "do_connect")
    def on_connect(dialect: Any, record: Any, args: Any, kwargs: Any) -> Any:
        nonlocal down_until
        if monotonic() >= down_until:
            if down_until:  # Only one looks for it, and the others don't wait.
                down_until = monotonic() + _PATIENCE
            try:
                connection = connect(dialect, record, args, kwargs)
            except ServiceUnavailableException:
                _logger.warning("A replica can't be reached, so that the primary is read from.", exc_info=True)
                down_until = monotonic() + _PATIENCE
            else:
                down_until = 0.0
                return connection
        record.info["primary_until"] = down_until
        own_args, own_kwargs = dialect.create_connect_args(primary)
        return connect(dialect, record, own_args, {**_timeouts(kwargs), **own_kwargs})

    @event.listens_for(replica.sync_engine, "checkout")
    def on_checkout(_: Any, record: Any, *__: Any) -> None:
        if record.info.get("primary_until", math.inf) < monotonic():
            raise DisconnectionError  # The pool connects anew.


def _has_news(driver: Any) -> bool:
    """Whether the server has said something unasked, its end most likely: asyncpg notices it, psycopg doesn't."""
    if hasattr(driver, "is_closed"):
        return bool(driver.is_closed())
    with DefaultSelector() as selector:
        selector.register(driver.fileno(), EVENT_READ)
        return bool(selector.select(0))


def _timeouts(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name in {"timeout", "connect_timeout"}}
