"""Fixtures of our own suite: one event loop, and servers that run where the tests run."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
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


_INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_BINARIES = next((path for path in reversed(_INSTALLED) if (path / "initdb").exists()), None)
_USER = "postgres" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root.


class Postgres:
    """A server with a folder of its own. It keeps what it acknowledged: nothing that makes it safe is turned off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: list[str] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        assert _BINARIES is not None
        subprocess.run([_BINARIES / program, *arguments], check=True, capture_output=True, user=_USER, cwd="/")

    def start(self) -> None:
        """Start it, and wait until it answers; what a killed one left behind may keep it waiting."""
        deadline = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            if self._process is None or self._process.poll() is not None:
                self._launch()
            time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut would."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        self._signal(signal.SIGQUIT)

    def _launch(self) -> None:
        assert _BINARIES is not None
        command = [str(_BINARIES / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-p", str(self.port), "-h", "127.0.0.1", *self.settings],
                stdout=log,
                stderr=log,
                user=_USER,
                cwd="/",
            )

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(timeout=30)

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            with psycopg.connect(self.url, connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False


@pytest.fixture(scope="session")
def new_postgres() -> Iterator[Callable[[], Postgres]]:
    """Makes servers that have a folder and no data yet; they are gone after the tests."""
    if _BINARIES is None:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("There is no PostgreSQL installed that a test could start.")
    servers: list[Postgres] = []

    def new() -> Postgres:
        folder = Path(tempfile.mkdtemp(prefix="appkit-postgres-"))  # Not pytest's, which only we may enter.
        if _USER is not None:
            shutil.chown(folder, _USER)
        servers.append(Postgres(folder))
        return servers[-1]

    yield new
    for server in reversed(servers):
        server.stop()
        shutil.rmtree(server.folder)
