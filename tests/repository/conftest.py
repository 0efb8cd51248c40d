"""A PostgreSQL server of our own, to be killed, and one that lags behind it."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def primary(new_postgres: Callable[[], Any]) -> Any:
    """A server of our own."""
    server = new_postgres()
    server.run("initdb", "-D", str(server.folder / "data"), "-A", "trust", "-U", "postgres", "-N")
    server.start()
    return server


@pytest.fixture(scope="session")
def standby(new_postgres: Callable[[], Any], primary: Any) -> Any:
    """A streaming replica of it that is half a second behind."""
    server = new_postgres()
    server.run("pg_basebackup", "-D", str(server.folder / "data"), "-d", primary.url, "-R", "--checkpoint=fast")
    server.settings = ["-c", "recovery_min_apply_delay=500ms"]
    server.start()
    return server
