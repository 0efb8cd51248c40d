"""Killing processes and servers at random loses no task.

`APPKIT_TEST_KILLS` is the number of kills. `nox -s chaos` sets thirty.
"""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from tests.tasks.chaos import Chaos, Report

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("APPKIT_TEST_KILLS", "2"))
_logger = logging.getLogger(__name__)


class Server:
    """A separate server for the test, which the test kills and restarts."""

    def __init__(self, folder: Path, command: list[str], port: int, **environment: str) -> None:
        self._folder, self._command, self._port = folder, command, port
        self.environment = os.environ | environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 90) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + seconds
        while not self._listens():
            assert time.monotonic() < end, (self._folder / "log").read_text()[-3000:]
            assert self._process.poll() is None, (self._folder / "log").read_text()[-3000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the server and its child processes, as a power cut does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def restart(self) -> None:
        self.kill()
        time.sleep(1)
        self.start()

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return True
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_server(folder: Path) -> tuple[str, Server]:
    """A Redis server that stores nothing on disk."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    return f"redis://127.0.0.1:{port}/0", Server(folder, command, port)


def rabbitmq_server(folder: Path) -> tuple[str, Server]:
    (program,) = Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server")
    port = free_port()
    (folder / "plugins").write_text("[].")
    environment = {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_NODENAME": f"appkit{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none"),
    }
    # Erlang would start a daemon that outlives the server. This daemon ends with the server.
    command = ["sh", "-c", f"epmd & sleep 1; exec {program}"]
    return f"amqp://guest:guest@127.0.0.1:{port}/", Server(folder, command, port, **environment)


def nats_server(folder: Path) -> tuple[str, Server]:
    port = free_port()
    command = ["nats-server", "-js", "-sd", str(folder / "store"), "-a", "127.0.0.1", "-p", str(port)]
    return f"nats://127.0.0.1:{port}", Server(folder, command, port)


@pytest.fixture(params=["redis", "rabbitmq", "nats"])
def message_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Server]]:
    make, binary = {
        "redis": (redis_server, "redis-server"),
        "rabbitmq": (rabbitmq_server, "rabbitmq-server"),
        "nats": (nats_server, "nats-server"),
    }[request.param]
    if shutil.which(binary, path=f"{os.environ['PATH']}:/usr/sbin") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"There is no {binary} that a test could start.")
    url, server = make(tmp_path)
    server.start()
    yield url, server
    server.kill()


def assert_nothing_lost(report: Report) -> None:
    _logger.info("%s", json.dumps(asdict(report)))
    assert report.committed > 0
    assert (report.lost, report.phantom, report.together_doubled, report.left, report.dead) == (0, 0, 0, 0, 0), report


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_killed_instances_lose_nothing_and_double_nothing(own_database_url: str, several: bool) -> None:
    instances = 1 if not several else 2 if own_database_url.startswith("sqlite") else 3
    assert_nothing_lost(Chaos(own_database_url, instances=instances).run(KILLS))


def test_killed_workers_and_servers_lose_nothing(own_database_url: str, message_server: tuple[str, Server]) -> None:
    url, server = message_server

    def restart_now_and_then(kill: int) -> None:
        if kill % 6 == 0:
            server.restart()

    chaos = Chaos(own_database_url, instances=4, broker_url=f"{url}?queue=chaos")
    assert_nothing_lost(chaos.run(KILLS, restart_now_and_then))


def test_database_that_is_killed_loses_nothing(new_postgres: Callable[[], Any]) -> None:
    server = new_postgres()
    server.run("initdb", "-D", str(server.folder / "data"), "-A", "trust", "-U", "postgres", "-N")
    server.start()

    def restart_now_and_then(kill: int) -> None:
        if kill % 6 == 0:
            server.kill()
            server.start()

    assert_nothing_lost(Chaos(server.url, instances=3).run(KILLS, restart_now_and_then))


def test_chaos_prints_one_line_and_refuses_a_database_in_use(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'chaos.db'}"
    command = [sys.executable, "-m", "tests.tasks.chaos", "--db", url, "--kills", "1"]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=300, cwd=ROOT)
    report = json.loads(done.stdout)
    assert (report["db"], report["kills"], report["lost"]) == ("sqlite", 1, 0)

    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE precious (id INTEGER)"))
    engine.dispose()
    refused = subprocess.run(command, capture_output=True, check=False, text=True, timeout=300, cwd=ROOT)
    assert (refused.returncode, "Give an empty one" in refused.stderr) == (1, True)
