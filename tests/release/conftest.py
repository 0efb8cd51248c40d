"""Fixtures for release tests: the built wheel in environments without this repository."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from httpx2 import Client, ConnectError


class Environment:
    """A virtual environment and a working directory."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", folder / ".venv"], check=True)
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("APPKIT", "COV", "NOX", "PYTEST", "PYTHON", "VIRTUAL_ENV"))
        }
        found = " ".join(filter(None, [str(wheels), os.environ.get("PIP_FIND_LINKS")]))
        path = os.pathsep.join([str(folder / ".venv" / "bin"), clean["PATH"]])
        self.variables = clean | {"PIP_FIND_LINKS": found, "UV_FIND_LINKS": str(wheels), "PATH": path}

    def run(self, command: str, folder: Path | None = None) -> str:
        """Run a shell line; fail with its output if it fails."""
        done = self.start(command, folder, stdout=subprocess.PIPE)
        out, _ = done.communicate(timeout=600)
        text = out.decode()
        assert done.returncode == 0, f"$ {command}\n{text}"
        return text

    def start(self, command: str, folder: Path | None = None, stdout: int | None = None) -> "subprocess.Popen[bytes]":
        """Start a shell line in a new process group."""
        return subprocess.Popen(
            ["/bin/sh", "-ec", command],
            cwd=folder or self.folder,
            env=self.variables,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT if stdout else None,
        )

    @contextmanager
    def serve(self, command: str, folder: Path | None = None) -> Iterator[Client]:
        """Start a server with a shell line, wait until it answers, and stop it when the block ends."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        server = self.start(f"{command} --port {port}", folder)
        address = f"http://127.0.0.1:{port}"
        try:
            with Client(base_url=address, headers={"Origin": address}) as browser:
                for _ in range(1200):
                    assert server.poll() is None, f"{command} ended with {server.returncode}."
                    try:
                        browser.get("/api/health").raise_for_status()
                        break
                    except ConnectError:
                        time.sleep(0.1)
                yield browser
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=30)


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The folder with the built wheel."""
    folder = os.environ.get("APPKIT_TEST_WHEELS")
    if folder is None:
        pytest.skip("APPKIT_TEST_WHEELS names no folder with a built wheel; `nox -s release -- --dry-run` does.")
    return Path(folder)


@pytest.fixture
def stranger(tmp_path: Path, wheels: Path) -> Environment:
    """A new environment with only Python."""
    return Environment(tmp_path, wheels)


def console(readme: Path) -> list[str]:
    """The commands in a README, without comments."""
    return [
        line.removeprefix("$ ").partition("  #")[0].strip()
        for block in re.findall(r"```console\n(.*?)```", readme.read_text(), re.DOTALL)
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
