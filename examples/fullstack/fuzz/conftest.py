"""Fixtures for fuzzing: the served app, and a signed-in superuser."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import demo
import pytest
from deployments import deployment
from requests import Session

ACCOUNT = {"email": "demo@example.com", "password": "paper-and-ink"}


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The database: a file, or a server."""
    with deployment(request.param) as variables:
        yield variables


@pytest.fixture(scope="session")
def address(database: dict[str, str]) -> Iterator[str]:
    """The app's URL. Password hashing is cheap and limits are off, because all requests come from one client."""
    with tempfile.TemporaryDirectory(prefix="desk-") as data:
        port = demo.free_port()
        environment = {
            **demo.environment_for(Path(data), port),
            **database,
            "AUTH_ACCESS_TTL": "3600",
            "AUTH_BEARER_ENABLED": "true",
            "ENVIRONMENT": "test",
            "LIMITS_ENABLED": "false",
            "MAIL_URL": "memory://",
        }
        demo.run_main("upgrade-database", environment)
        demo.run_main("seed", environment)
        promote = [sys.executable, "-m", "appkit", "users", "promote", ACCOUNT["email"]]
        subprocess.run(promote, cwd=demo.BACKEND, env=environment, check=True)
        with demo.serve(port, environment) as (_, address):
            yield address


@pytest.fixture(scope="session")
def stranger(address: str) -> Iterator[Session]:
    """An HTTP client that is not signed in."""
    with Session() as browser:
        browser.headers["Origin"] = address
        yield browser


@pytest.fixture(scope="session")
def member(address: str) -> Iterator[Session]:
    """An HTTP client that is signed in."""
    with Session() as browser:
        browser.headers["Origin"] = address
        browser.post(f"{address}/api/auth/signin", json=ACCOUNT).raise_for_status()
        yield browser


@pytest.fixture(scope="session")
def known(address: str, member: Session) -> dict[str, str]:
    """Ids of existing rows, by path parameter."""

    def first(path: str, key: str = "id") -> str:
        found = member.get(f"{address}/api/{path}").json()
        return str((found if isinstance(found, list) else found["items"])[0][key])

    export = member.post(f"{address}/api/exports").json()
    while export["state"] != "done":
        assert export["state"] != "failed"
        time.sleep(0.1)
        export = member.get(f"{address}/api/exports/{export['id']}").json()
    return {
        "export_id": export["id"],
        "post_id": first("posts"),
        "session_id": first("auth/sessions"),
        "task_id": first("tasks", "task_id"),
        "user_id": first("users"),
    }
