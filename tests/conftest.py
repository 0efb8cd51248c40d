"""Fixtures of our own suite: one event loop, and servers that run where the tests run."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg import sql
from sqlalchemy import URL, make_url

pytest_plugins = ["pytester"]

POSTGRES_URL = make_url(os.environ.get("APPKIT_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres"))
REDIS_URL = os.environ.get("APPKIT_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asyncio only, as Taskiq is."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def _loop(anyio_backend: str) -> None:
    """One event loop for all tests: an async fixture of the session keeps it open."""


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"
        return
    server: URL = request.getfixturevalue("postgres_server")
    name = f"appkit_test_{uuid4().hex}"
    _execute(server, "CREATE DATABASE {}", name)
    yield server.set(drivername="postgresql+asyncpg", database=name).render_as_string(hide_password=False)
    _execute(server, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The Redis server; put `redis_prefix` before the names of keys."""
    return redis_server


@pytest.fixture
def redis_prefix(redis_server: str) -> Iterator[str]:
    """What the test's keys start with, so that they are its own and go away with it."""
    prefix = f"appkit-test-{uuid4().hex}:"
    yield prefix
    with redis.Redis.from_url(redis_server) as client:
        for key in client.scan_iter(f"{prefix}*"):
            client.delete(key)


@pytest.fixture(scope="session")
def postgres_server() -> URL:
    """A PostgreSQL server in which databases may be made."""
    try:
        _execute(POSTGRES_URL, "SELECT 1")
    except psycopg.OperationalError as exc:
        _unavailable(f"PostgreSQL does not answer at APPKIT_TEST_POSTGRES_URL: {exc}")
    return POSTGRES_URL


@pytest.fixture(scope="session")
def redis_server() -> str:
    """The URL of a Redis server."""
    try:
        with redis.Redis.from_url(REDIS_URL) as client:
            client.ping()
    except redis.ConnectionError as exc:
        _unavailable(f"Redis does not answer at APPKIT_TEST_REDIS_URL: {exc}")
    return REDIS_URL


def _execute(server: URL, statement: str, *names: str) -> None:
    dsn = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _unavailable(reason: str) -> None:
    """Skip where a server is missing; where all of them must be there, fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
