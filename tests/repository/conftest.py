"""PostgreSQL servers of a test's own, to be killed and to lag behind."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

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


@pytest.fixture(scope="session")
def primary(new_postgres: Callable[[], Postgres]) -> Postgres:
    """A server of our own."""
    server = new_postgres()
    server.run("initdb", "-D", str(server.folder / "data"), "-A", "trust", "-U", "postgres", "-N")
    server.start()
    return server


@pytest.fixture(scope="session")
def standby(new_postgres: Callable[[], Postgres], primary: Postgres) -> Postgres:
    """A streaming replica of it that is half a second behind."""
    server = new_postgres()
    server.run("pg_basebackup", "-D", str(server.folder / "data"), "-d", primary.url, "-R", "--checkpoint=fast")
    server.settings = ["-c", "recovery_min_apply_delay=500ms"]
    server.start()
    return server
