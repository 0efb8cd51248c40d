"""Engines: one for each URL, with what we ask of its driver."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from appkit.exceptions import AppKitError
from appkit.repository.connections import check, connect, fall_back
from appkit.repository.sqlite import set_up

_EXTRAS = {"asyncpg": "postgres", "psycopg": "psycopg"}


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
    if sqlite:
        set_up(engine, begin, foreign_keys=foreign_keys)
        return engine
    check(engine, always=primary is not None)
    if primary is None:
        event.listen(engine.sync_engine, "do_connect", connect)
    else:
        fall_back(engine, primary)
    return engine


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
