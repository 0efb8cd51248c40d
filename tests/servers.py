"""The servers that tests meet: databases and key prefixes on those that run, and PostgreSQL servers to kill."""

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
from sqlalchemy import URL, create_engine, make_url

from appkit.repository.base import Base
from tests.tables import tables_of_every_app

POSTGRES_URL = make_url(os.environ.get("APPKIT_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres"))
REDIS_URL = os.environ.get("APPKIT_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with the tables of every app and no rows: a SQLite file, or the test process's PostgreSQL database.

    A test that alters these tables, or that needs a database without them, uses `own_database_url`. Which tests run on
    both databases is decided in `tests/conftest.py`.
    """
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_file"), tmp_path / "test.db")
        yield _sqlite_url(tmp_path)
        return
    database: PostgresDatabase = request.getfixturevalue("postgres_database")
    yield database.url
    database.empty()


@pytest.fixture(params=["sqlite", "postgresql"])
def own_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables, made for the test, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield _sqlite_url(tmp_path)
        return
    database = PostgresDatabase(request.getfixturevalue("postgres_server"))
    yield database.url
    database.drop()


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with the tables of every app, to be copied."""
    file = tmp_path_factory.mktemp("sqlite") / "empty.db"
    _create_tables(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_database(postgres_server: URL) -> "Iterator[PostgresDatabase]":
    """The PostgreSQL database of this test process."""
    database = PostgresDatabase(postgres_server)
    database.create_tables()
    yield database
    database.drop()


class PostgresDatabase:
    """A database on a server. Emptying one takes a few milliseconds, making one up to a second."""

    def __init__(self, server: URL) -> None:
        self._server = server
        self._name = f"appkit_test_{uuid4().hex}"
        self._schema: set[tuple[str, ...]] = set()
        self._connection: psycopg.Connection | None = None
        _execute(server, "CREATE DATABASE {}", self._name)
        # Tests that cut a server's power start one of their own.
        _execute(server, "ALTER DATABASE {} SET synchronous_commit = off", self._name)

    @property
    def url(self) -> str:
        return self._url("postgresql+asyncpg").render_as_string(hide_password=False)

    def create_tables(self) -> None:
        """Create the tables of every app, and record the schema."""
        _create_tables(self._url("postgresql+psycopg"))
        self._schema = self._read_schema()

    def empty(self) -> None:
        """End what is still connected, drop what the test created, and delete all rows."""
        self._run("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE " + _OTHERS)
        found = self._read_schema()
        if created := [name for kind, name, _ in found - self._schema if kind == "table"]:
            self._run("DROP TABLE {} CASCADE", *created)
            found = self._read_schema()
        if found != self._schema:
            schemas = [name for kind, name, _ in found if kind == "schema"]
            self._run("DROP SCHEMA {} CASCADE", *schemas)
            self._run("CREATE SCHEMA public")
            self.create_tables()
        for table in reversed(tables_of_every_app()):
            self._run("DELETE FROM {}", table.name)
        for name in (name for kind, name, _ in self._schema if kind == "relation S"):
            self._run("ALTER SEQUENCE {} RESTART", name)

    def drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        _execute(self._server, "DROP DATABASE {} WITH (FORCE)", self._name)

    def _url(self, driver: str) -> URL:
        return self._server.set(drivername=driver, database=self._name)

    def _read_schema(self) -> set[tuple[str, ...]]:
        return set(self._run(_SCHEMA).fetchall())

    def _run(self, statement: str, *names: str) -> psycopg.Cursor[tuple[str, ...]]:
        if self._connection is None:
            dsn = self._url("postgresql").render_as_string(hide_password=False)
            self._connection = psycopg.connect(dsn, autocommit=True)
        return self._connection.execute(sql.SQL(statement).format(sql.SQL(", ").join(map(sql.Identifier, names))))


_OTHERS = "datname = current_database() AND pid <> pg_backend_pid()"
_SCHEMA = """
WITH schemas AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)')
SELECT 'schema', nspname, '' FROM schemas
UNION ALL
  SELECT CASE WHEN relkind = 'r' AND nspname = 'public' THEN 'table' ELSE 'relation ' || relkind::text END, relname,
  (SELECT string_agg(attname || ' ' || atttypid || ' ' || attnotnull, ', ' ORDER BY attnum)
   FROM pg_attribute WHERE attrelid = pg_class.oid AND attnum > 0)
  FROM pg_class JOIN schemas ON schemas.oid = relnamespace
UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(pg_constraint.oid)
  FROM pg_constraint JOIN schemas ON schemas.oid = connamespace
UNION ALL SELECT 'type', typname, '' FROM pg_type JOIN schemas ON schemas.oid = typnamespace WHERE typtype IN ('e', 'd')
UNION ALL SELECT 'function', proname, '' FROM pg_proc JOIN schemas ON schemas.oid = pronamespace
"""


def _create_tables(url: str | URL) -> None:
    engine = create_engine(url)
    Base.metadata.create_all(engine, tables=tables_of_every_app())
    engine.dispose()


def _sqlite_url(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'test.db'}"


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
