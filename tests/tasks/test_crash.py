"""A killed process loses no task, and repeats no effect of a `TaskSession`.

`APPKIT_TEST_KILLS` is the number of kills.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Engine, create_engine, make_url, text

pytestmark = pytest.mark.slow  # Servers are killed.
KILLS = int(os.environ.get("APPKIT_TEST_KILLS", "3"))


@contextmanager
def serving(directory: Path, database_url: str) -> Iterator[httpx2.Client]:
    """The app in a separate process, which is killed when the block ends."""
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "TASKS_LEASE": "3",
        "LOGGING_LEVEL": "WARNING",
        "ENVIRONMENT": "test",
    }
    command = [sys.executable, "-m", "uvicorn", "crash_app:app", "--log-level", "warning"]
    command += ["--app-dir", str(Path(__file__).parent)]
    with socket.create_server(("127.0.0.1", 0)) as server, (directory / "log").open("ab") as log:
        handed_on = server.fileno()
        process = subprocess.Popen(
            [*command, "--fd", str(handed_on)],
            cwd=directory,
            env=environment,
            stdout=log,
            stderr=log,
            pass_fds=[handed_on],
        )
        port = server.getsockname()[1]
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=60) as client:
            wait_for_answer(client, directory / "log")
            yield client
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def wait_for_answer(client: httpx2.Client, log: Path) -> None:
    try:
        assert client.get("/ping").status_code == 200
    except httpx2.TransportError:
        raise AssertionError(log.read_text()) from None


def test_killed_process_loses_nothing_and_doubles_nothing(tmp_path: Path, database_url: str) -> None:
    engine = create_engine(make_url(database_url).set(drivername=sync_driver(database_url)))
    accepted = 0
    for _ in range(KILLS if database_url.startswith("sqlite") else max(1, KILLS // 3)):
        with serving(tmp_path, database_url) as client:
            if accepted:
                wait_until_done(engine, 60.0)
                assert_nothing_lost(engine, accepted)
            for number in range(10):
                assert client.post("/bookmarks", json={"url": f"https://example.com/{number}"}).status_code == 201
            accepted += 10
            time.sleep(random.choice([0, random.uniform(0, 1.5)]))  # Kill right after the commit, or while tasks run.
    with serving(tmp_path, database_url):
        wait_until_done(engine, 60.0)
        assert_nothing_lost(engine, accepted)
    engine.dispose()


def wait_until_done(engine: Engine, seconds: float) -> None:
    end = time.monotonic() + seconds
    while states := count(engine, "SELECT state, count(*) FROM appkit_outbox WHERE state <> 'done' GROUP BY state"):
        assert time.monotonic() < end, f"Not done after {seconds} s: {states}"
        time.sleep(0.1)


def assert_nothing_lost(engine: Engine, accepted: int) -> None:
    bookmarks = count(engine, "SELECT id, count(*) FROM bookmark GROUP BY id")
    fetched = count(engine, "SELECT bookmark_id, count(*) FROM fetched GROUP BY bookmark_id")
    noticed = count(engine, "SELECT bookmark_id, count(*) FROM noticed GROUP BY bookmark_id")

    assert len(bookmarks) == accepted
    assert fetched == bookmarks  # Each bookmark exactly once.
    assert noticed.keys() == bookmarks.keys()  # Each bookmark at least once.


def count(engine: Engine, query: str) -> Counter[str]:
    with engine.connect() as connection:
        return Counter({str(key): number for key, number in connection.execute(text(query))})


def sync_driver(url: str) -> str:
    return "sqlite" if url.startswith("sqlite") else "postgresql+psycopg"
