"""A PostgreSQL server that tests may kill, and its replica."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def primary(new_postgres: Callable[[], Any]) -> Any:
    """A server only for these tests."""
    server = new_postgres()
    server.run("initdb", "-D", str(server.folder / "data"), "-A", "trust", "-U", "postgres", "-N")
    server.start()
    return server


@pytest.fixture(scope="session")
def standby(new_postgres: Callable[[], Any], primary: Any) -> Any:
    """A streaming replica of `primary` with a delay of half a second."""
    server = new_postgres()
    server.run("pg_basebackup", "-D", str(server.folder / "data"), "-d", primary.url, "-R", "--checkpoint=fast")
    server.settings = ["-c", "recovery_min_apply_delay=500ms"]
    server.start()
    return server
