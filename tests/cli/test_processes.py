"""Commands in their own processes: servers, workers, and commands that change a database."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from httpx2 import Client, TransportError

pytestmark = pytest.mark.slow  # The tests start servers, workers and commands.
APP = """
from pathlib import Path
import anyio
from sqlalchemy.orm import Mapped
from appkit import AppKit, BaseTableModel

kit = AppKit()


class Shelf(BaseTableModel):
    name: Mapped[str]


@kit.task
async def label(name: str) -> None:
    Path("labelled").write_text(name)


async def send() -> None:
    async with kit.lifespan(work=False):
        await label.kiq("top")


if __name__ == "__main__":
    anyio.run(send)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "library.py").write_text(APP)
    return tmp_path


@pytest.fixture
def start(library: Path) -> Iterator[Start]:
    """Starts the command in a folder with an app. The process is killed after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "appkit", *arguments],
            cwd=library,
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


Said = tuple[int, str, str]

IN_ONE_PROCESS = """
import contextlib, io, json, sys
from appkit.cli import main
answers = []
for arguments, said in json.loads(sys.argv[1]):
    sys.argv, sys.stdin, code = ["appkit", *arguments], io.StringIO(said), 0
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code or 0
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


def run_all(library: Path, *commands: tuple[list[str], str]) -> list[Said]:
    """Run several commands with their input in one process, because imports are slow. Returns their results."""
    arguments = [sys.executable, "-c", IN_ONE_PROCESS, json.dumps(commands)]
    done = subprocess.run(arguments, cwd=library, check=True, stdout=subprocess.PIPE, timeout=120)
    return [tuple(said) for said in json.loads(done.stdout)]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "It did not happen in time."
        time.sleep(0.05)


def tables(library: Path) -> set[str]:
    connection = sqlite3.connect(library / "app.db")
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    return names


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    with Client(timeout=30) as client:
        try:
            return client.get(url).is_success
        except TransportError:  # A reload may interrupt a request.
            return False


def test_database_is_upgraded_and_downgraded(library: Path) -> None:
    behind, written, checked, upgraded, current, downgraded = run_all(
        library,
        (["db", "check"], ""),
        (["db", "revision", "-m", "First tables"], ""),
        (["db", "check"], ""),
        (["db", "upgrade"], ""),
        (["db", "current", "--json"], ""),
        (["db", "downgrade", "base"], ""),
    )
    assert behind[0] == 1
    assert "add table shelf" in behind[1]
    assert "Write the missing migration: `appkit db revision" in behind[2]
    assert written[0] == 0
    assert Path(written[1].strip()).is_file()
    assert checked[:2] == (0, "")
    assert upgraded[:2] == (0, "The database is up to date now.\n")
    assert json.loads(current[1])[0]["revision"] in written[1]
    assert downgraded[0] == 0
    assert "shelf" not in tables(library)


def test_users_are_created_and_promoted(library: Path) -> None:
    created, taken, short, promoted = run_all(
        library,
        (["users", "create", "ada@example.com"], "analytical engine\n"),
        (["users", "create", "ADA@example.com"], "analytical engine\n"),
        (["users", "create", "babbage@example.com"], "ada\n"),
        (["users", "promote", "ada@example.com"], ""),
    )
    assert created[:2] == (0, "ada@example.com can now sign in.\n")
    assert taken[0] == short[0] == 1
    assert taken[2].endswith("An account with this e-mail address exists already.\n")
    assert short[2].endswith("Use at least 8 characters.\n")
    assert promoted[0] == 0
    connection = sqlite3.connect(library / "app.db")
    assert connection.execute('SELECT email, is_superuser FROM "user"').fetchall() == [("ada@example.com", 1)]
    connection.close()


def test_users_are_listed_disabled_and_enabled(library: Path) -> None:
    _, _, listed, disabled, shown, enabled, reset, revoked, demoted, missing, among_others = run_all(
        library,
        (["users", "create", "ada@example.com", "--superuser"], "analytical engine\n"),
        (["users", "create", "babbage@example.com"], "difference engine\n"),
        (["users", "list", "ADA", "--json"], ""),
        (["users", "disable", "ada@example.com"], ""),
        (["users", "show", "ada@example.com", "--json"], ""),
        (["users", "enable", "ada@example.com"], ""),
        (["users", "reset", "ada@example.com"], ""),
        (["users", "revoke", "ada@example.com"], ""),
        (["users", "demote", "ada@example.com"], ""),
        (["users", "revoke", "nobody@example.com"], ""),
        (["users", "list", "--others"], ""),
    )
    (ada,) = json.loads(listed[1])
    assert (ada["email"], ada["active"], ada["superuser"]) == ("ada@example.com", True, True)
    assert disabled[:2] == (0, "ada@example.com can no longer sign in.\n")
    assert [user["active"] for user in json.loads(shown[1])] == [False]
    assert [result[0] for result in (enabled, reset, revoked, demoted)] == [0] * 4
    assert (missing[0], missing[2]) == (
        1,
        "There is no user with this e-mail address. List users with `appkit users list`.\n",
    )
    assert among_others[1].count("@example.com") == 2


def test_worker_runs_tasks_of_another_process_and_stops_on_sigterm(start: Start, library: Path) -> None:
    subprocess.run([sys.executable, "library.py"], cwd=library, check=True, timeout=60)
    assert not (library / "labelled").exists()
    others = start("worker", "--queues", "others", "--concurrency", "1")
    probe = [sys.executable, "-m", "appkit", "worker", "--check"]
    wait_for(lambda: subprocess.run(probe, cwd=library, check=False, capture_output=True).returncode == 0)
    assert not (library / "labelled").exists()
    others.send_signal(signal.SIGTERM)
    others.communicate(timeout=30)
    worker = start("worker")
    wait_for((library / "labelled").exists)
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=30)
    assert worker.returncode == 0
    assert (library / "labelled").read_text() == "top"


def test_run_serves_until_sigterm(start: Start) -> None:
    port = free_port()
    server = start("run", "--host", "127.0.0.1", "--port", str(port), "--workers", "2", ENVIRONMENT="development")
    wait_for(lambda: server.poll() is not None or answers(f"http://127.0.0.1:{port}/api/health"))
    server.send_signal(signal.SIGTERM)
    _, err = server.communicate(timeout=30)
    assert server.returncode in {0, -signal.SIGTERM}, err
    assert "Traceback" not in err


def test_run_that_cannot_start_fails_with_the_reason(start: Start) -> None:
    """With several server processes, uvicorn itself would exit with 0."""
    server = start("run", "--workers", "2", AUTH_SECRET_KEYS='["q8Zr2LxV0nKd5YtWb7GmHs3JcP9fAeU4"]')
    _, err = server.communicate(timeout=60)
    assert server.returncode == 1
    assert "There are no migrations" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_dev_serves_without_settings_and_reloads(start: Start, library: Path) -> None:
    port = free_port()
    server = start("dev", "library.py", "--port", str(port))
    url = f"http://127.0.0.1:{port}/api"
    wait_for(lambda: server.poll() is not None or answers(f"{url}/health"))
    route = '\n\n@kit.app.get("/api/shelves")\nasync def shelves() -> None: ...\n'
    (library / "library.py").write_text(APP + route)
    wait_for(lambda: answers(f"{url}/shelves"))
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=30)
