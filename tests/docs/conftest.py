"""Run snippets as readers do: in a folder of their own and a process of their own."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
SNIPPETS = ROOT / "docs" / "snippets"
COLD_START = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Path]:
    """Copy a snippet into an empty folder."""

    def put(name: str) -> Path:
        shutil.copy(SNIPPETS / f"{name}.py", tmp_path)
        return tmp_path

    return put


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment without appkit's settings."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


@pytest.fixture
def python(environment: dict[str, str]) -> Callable[..., str]:
    """Run Python in a folder, and return its output."""

    def run(directory: Path, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def serve(environment: dict[str, str]) -> Callable[..., object]:
    """Serve `module:app` from a folder, and yield an HTTP client."""

    @contextmanager
    def serving(directory: Path, app: str) -> Iterator[httpx2.Client]:
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        log = directory / "server.log"
        arguments = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--timeout-graceful-shutdown", "2"]
        with log.open("w") as output:
            server = subprocess.Popen(arguments, cwd=directory, env=environment, stdout=output, stderr=output)
            try:
                with httpx2.Client(base_url=address, headers={"Origin": address}, timeout=20) as browser:
                    wait_until_it_answers(server, browser, log)
                    yield browser
            finally:
                server.terminate()
                server.wait(timeout=30)

    return serving


def wait_until_it_answers(server: "subprocess.Popen[bytes]", browser: httpx2.Client, log: Path) -> None:
    deadline = time.monotonic() + COLD_START
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            browser.get("/openapi.json")
        except httpx2.ConnectError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"The server did not answer within {COLD_START:.0f} s:\n{log.read_text()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
