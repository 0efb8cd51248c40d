"""Serves the apps of the sign-in benchmark with uvicorn, each with its own SQLite file, and sends them requests."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from socket import create_connection, socket
from urllib.parse import urlencode

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parent / ".nox" / "fastapi-users"
REQUIREMENTS = ("fastapi-users[sqlalchemy]>=15,<16", "sqlalchemy>=2.0,<2.1", "aiosqlite", "uvicorn")

OURS, THEIRS, PLAIN = "appkit", "fastapi-users", "by hand"
REVOCABLE = f"{THEIRS}, tokens in the database"
ACCOUNT = {"email": "ada@example.com", "password": "correct horse battery staple"}


@dataclass
class Contender:
    """One app, served."""

    name: str
    port: int
    pid: int
    signin: tuple[str, bytes, str]
    """Path, body and content type."""
    readers: dict[str, tuple[str, str]]
    """Path and token of a request for the current user, by the name of the strategy."""
    forgot: str | None
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def note(self, what: str, seconds: float) -> None:
        """Store a duration."""
        self.seconds.setdefault(what, []).append(seconds)


def ask(connection: HTTPConnection, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
    """Send one request. Any status but a success ends the run."""
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status // 100 != 2:  # noqa: PLR2004 - status codes
        raise RuntimeError(f"{path} was answered with {answer.status}: {content[:200]!r}")
    return content


def post(connection: HTTPConnection, path: str, body: Mapping[str, object]) -> bytes:
    """Post JSON."""
    return ask(connection, "POST", path, json.dumps(body).encode(), **{"content-type": "application/json"})


@contextmanager
def serve(python: Path | str, name: str, database: Path) -> Iterator[tuple[int, int]]:
    """Serve an app, and yield its port and process id."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    options = ("--port", str(port), "--log-level", "error", "--no-access-log", "--loop", "asyncio", "--http", "h11")
    server = subprocess.Popen(
        [str(python), "-m", "uvicorn", f"{name}:app", *options],
        cwd=HERE / "signin",
        env={**os.environ, "BENCH_DATABASE": str(database)},
    )
    try:
        wait_for(server, port)
        yield port, server.pid
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(server: "subprocess.Popen[bytes]", port: int) -> None:
    """Wait until the server accepts connections."""
    for _ in range(1200):
        if server.poll() is not None:
            raise SystemExit(f"A server stopped with exit code {server.returncode}.")
        try:
            create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("A server did not answer within two minutes.")


def their_python() -> Path:
    """The Python of an environment with fastapi-users. The environment is created if it doesn't exist."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        uv = shutil.which("uv")
        make = [uv, "venv", "-q", "-p", sys.executable] if uv else [sys.executable, "-m", "venv"]
        install = [uv, "pip", "install", "-p", str(python)] if uv else [str(python), "-m", "pip", "install"]
        subprocess.run([*make, str(ENVIRONMENT)], check=True)
        subprocess.run([*install, "-q", *REQUIREMENTS], check=True)
    return python


def ours(port: int, pid: int) -> Contender:
    """The app with appkit, with an account."""
    connection, body = HTTPConnection("127.0.0.1", port), json.dumps(ACCOUNT).encode()
    post(connection, "/api/auth/signup", ACCOUNT)
    token = json.loads(post(connection, "/api/auth/token", ACCOUNT))["access_token"]
    forgot = "/api/auth/password/forgot"
    return Contender(OURS, port, pid, ("/api/auth/signin", body, "application/json"), {OURS: ("/me", token)}, forgot)


def by_hand(port: int, pid: int) -> Contender:
    """The handwritten app, with an account."""
    connection, body = HTTPConnection("127.0.0.1", port), json.dumps(ACCOUNT).encode()
    post(connection, "/signup", ACCOUNT)
    token = json.loads(post(connection, "/signin", ACCOUNT))["access_token"]
    return Contender(PLAIN, port, pid, ("/signin", body, "application/json"), {PLAIN: ("/me", token)}, None)


def theirs(port: int, pid: int) -> Contender:
    """fastapi-users' app, with an account."""
    connection, form = HTTPConnection("127.0.0.1", port), "application/x-www-form-urlencoded"
    post(connection, "/register", ACCOUNT)
    body = urlencode({"username": ACCOUNT["email"], "password": ACCOUNT["password"]}).encode()
    readers = {}
    for name, strategy in ((THEIRS, "jwt"), (REVOCABLE, "database")):
        answer = ask(connection, "POST", f"/{strategy}/login", body, **{"content-type": form})
        readers[name] = (f"/me/{strategy}", json.loads(answer)["access_token"])
    return Contender(THEIRS, port, pid, ("/jwt/login", body, form), readers, "/forgot-password")
