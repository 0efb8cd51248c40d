"""Serve the example with demo data on one port, on SQLite: `nox -s demo`.

With `--smoke` a program walks through it instead of you, and the exit code says whether it came to the end.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from httpx2 import Client, ConnectError, Response

HERE = Path(__file__).resolve().parent
BACKEND = HERE / "backend"
FRONTEND = HERE / "frontend"
SECRET = "only for this demo, which ends with this process"  # noqa: S105 - it signs nothing that lasts


def main() -> None:
    """Build, migrate, seed, serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="run through the app once, and exit")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    built = build_frontend()
    with tempfile.TemporaryDirectory(prefix="desk-") as data:
        port = free_port() if options.smoke else options.port
        environment = environment_for(Path(data), port)
        run_main("upgrade-database", environment)
        account = run_main("seed", environment)
        with serve(port, environment) as (server, address):
            if options.smoke:
                walk(address, account, built=built)
                print("The smoke test passed.")
                return
            print(
                f"\nThe desk is at {address}{'' if built else '/api/docs'}\n{account}\n"
                "Write a post, publish it, comment on it; export your work as a PDF and watch it being made.\n"
                "Ctrl+C stops it, and forgets what you wrote.\n"
            )
            server.wait()


def build_frontend() -> bool:
    """Build the frontend, if npm is installed."""
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed, so there is no frontend. Try the API at /api/docs.")
        return False
    lock, installed = FRONTEND / "package-lock.json", FRONTEND / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=FRONTEND, check=True)
    subprocess.run([npm, "run", "build"], cwd=FRONTEND, check=True)
    return True


def environment_for(data: Path, port: int) -> dict[str, str]:
    """The backend's environment: its own database, and its address."""
    return {
        **os.environ,
        "AUTH_SECRET_KEYS": json.dumps([SECRET]),
        "DATABASE_URL": f"sqlite:///{data / 'desk.db'}",
        "ENVIRONMENT": "development",
        "FRONTEND_URL": address_of(port),
        "LOGGING_LEVEL": "WARNING",
    }


def address_of(port: int) -> str:
    """The app's URL, with a host name, because browsers allow no passkeys for IP addresses."""
    return f"http://localhost:{port}"


def run_main(command: str, environment: Mapping[str, str]) -> str:
    """Run a command of the backend, and return its output."""
    arguments = [sys.executable, "main.py", command]
    done = subprocess.run(arguments, cwd=BACKEND, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


@contextmanager
def serve(port: int, environment: Mapping[str, str]) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """Start the server, wait until it answers, and stop it when the block ends."""
    address = address_of(port)
    arguments = [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port), "--timeout-graceful-shutdown", "3"]
    server = subprocess.Popen([*arguments, "--log-level", "warning"], cwd=BACKEND, env=environment)
    try:
        wait_for(server, f"{address}/api/health")
        yield server, address
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)


def wait_for(server: "subprocess.Popen[bytes]", url: str) -> None:
    """Wait until the server answers."""
    with Client() as client:
        for _ in range(1200):
            if server.poll() is not None:
                raise SystemExit(f"The server stopped with exit code {server.returncode}.")
            try:
                client.get(url).raise_for_status()
            except ConnectError:
                time.sleep(0.1)
            else:
                return
    raise SystemExit("The server did not answer within two minutes.")


def walk(address: str, account: str, *, built: bool) -> None:
    """Sign in, read, write, publish, export and sign out."""
    found = re.search(r"(\S+@\S+) with the password (\S+)", account)
    if found is None:
        raise SystemExit(f"Seeding named no account: {account}")
    with Client(base_url=address, headers={"Origin": address}, timeout=10) as browser:
        if built:
            check(browser, "GET", "/", 200, contains='id="app"')
        email, password = found.groups()
        check(browser, "POST", "/api/auth/signin", 200, json={"email": email, "password": password})
        check(browser, "GET", "/api/posts", 200, contains="title")
        post = check(browser, "POST", "/api/posts", 201, json={"title": "A walk", "content": "It *works*."}).json()
        check(browser, "POST", f"/api/posts/{post['id']}/publish", 200)
        check(browser, "POST", f"/api/posts/{post['id']}/publish", 409, contains="40901")
        check(browser, "GET", f"/api/posts/{post['id']}", 200, contains="A walk")
        export = check(browser, "POST", "/api/exports", 201).json()
        wait_for_export(browser, export["id"])
        check(browser, "GET", f"/api/exports/{export['id']}/file", 200, contains="%PDF")
        check(browser, "POST", "/api/auth/signout", 204)
        check(browser, "GET", "/api/auth/me", 401)


def check(browser: Client, method: str, path: str, status: int, *, contains: str = "", json: object = None) -> Response:
    """Send a request, and exit unless the response has the expected status."""
    response = browser.request(method, path, json=json)
    print(f"{response.status_code}  {method:4}  {path}")
    if response.status_code != status or contains.encode() not in response.content:
        raise SystemExit(f"Expected {status} and {contains!r}, got {response.text[:500]}")
    return response


def wait_for_export(browser: Client, export_id: str) -> None:
    """Poll until the export is done."""
    for _ in range(300):
        export = browser.get(f"/api/exports/{export_id}").raise_for_status().json()
        if export["state"] == "done":
            return
        if export["state"] == "failed":
            raise SystemExit("The export failed.")
        time.sleep(0.1)
    raise SystemExit("The export took more than 30 seconds.")


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
