"""Deployments for tests: SQLite, PostgreSQL, and PostgreSQL with Redis and separate workers."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import demo
import pytest
from anyio.from_thread import start_blocking_portal
from appkit.testing.database import fresh_database
from redis import Redis

POSTGRES = os.environ.get("APPKIT_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
REDIS = os.environ.get("APPKIT_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
SERVERS = {"sqlite": (), "postgresql": (POSTGRES,), "redis": (POSTGRES, REDIS)}


@contextmanager
def deployment(name: str) -> Iterator[dict[str, str]]:
    """The environment of a deployment. Its data on the servers is deleted when the block ends."""
    require(*SERVERS[name])
    if name == "sqlite":
        yield {}
        return
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(fresh_database(POSTGRES)) as url:
        if name == "postgresql":
            yield {"DATABASE_URL": url}
            return
        with redis_queue() as broker:
            yield {"DATABASE_URL": url, "TASKS_BROKER_URL": broker, "TASKS_EMBEDDED": "false"}


def require(*urls: str) -> None:
    """Skip the test if a server is missing, or fail where all tests must run."""
    for url in map(urlsplit, urls):
        try:
            socket.create_connection((url.hostname or "", url.port or 0), timeout=10).close()
        except OSError:
            give_up = pytest.fail if os.environ.get("CI") else pytest.skip
            give_up(f"There is no {url.scheme} server at {url.hostname}:{url.port}.")


@contextmanager
def redis_queue() -> Iterator[str]:
    """The URL of an unused queue."""
    queue = f"appkit-test-{uuid4().hex}"
    yield f"{REDIS}?queue={queue}"
    with Redis.from_url(REDIS) as server:
        server.delete(*server.scan_iter(f"{queue}*"), queue)


@contextmanager
def worker(environment: Mapping[str, str]) -> Iterator[None]:
    """A worker, which finishes its tasks and stops when the block ends."""
    process = subprocess.Popen([sys.executable, "-m", "appkit", "worker", "main.py"], cwd=demo.BACKEND, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)
