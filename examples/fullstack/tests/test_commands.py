"""The app's commands, each in its own process with its own database."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

DESK = Path(__file__).parents[1]
BACKEND = DESK / "backend"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "desk.db"


@pytest.fixture
def run(database: Path) -> Run:
    def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment |= {"DATABASE_URL": f"sqlite:///{database}", "AUTH_SECRET_KEYS": f'["{"0123456789abcdef" * 4}"]'}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=BACKEND,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_migrations_upgrade_the_database_and_match_the_models(run, database):
    upgraded = run("main.py", "upgrade-database")
    assert upgraded.stdout == "migrated\n", upgraded.stderr
    with sqlite3.connect(database) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert {"user", "post", "comment", "export", "auth_session", "appkit_outbox"} <= tables
    checked = run("-m", "appkit", "db", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_migrations_can_be_rolled_back_to_an_empty_database(run, database):
    run("main.py", "upgrade-database")
    assert run("-m", "appkit", "db", "downgrade", "base").returncode == 0
    with sqlite3.connect(database) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert tables <= {"alembic_version", "sqlite_sequence"}


def test_seeding_is_idempotent(run, database):
    first = run("main.py", "seed")
    counts = count(database)
    second = run("main.py", "seed")
    assert "demo@example.com with the password" in first.stdout, first.stderr
    assert second.stdout == first.stdout
    assert count(database) == counts
    assert counts["user"] == 3
    assert counts["published"] == 8
    assert counts["post"] > counts["published"]
    assert counts["comment"] > 10


def test_seeding_is_refused_in_production(run):
    refused = run("main.py", "seed", ENVIRONMENT="production", FRONTEND_URL="https://desk.example.com")
    assert refused.returncode != 0
    assert "This is production" in refused.stderr


def test_error_codes_of_the_frontend_are_up_to_date(run):
    checked = run("-m", "appkit", "errors", "--ts", str(DESK / "frontend/src/api/errorCodes.gen.ts"), "--check")
    assert checked.returncode == 0, checked.stderr


def count(database: Path) -> dict[str, int]:
    connection = sqlite3.connect(database)
    tables = {name: f'SELECT count(*) FROM "{name}"' for name in ("user", "post", "comment")}
    tables["published"] = "SELECT count(*) FROM post WHERE published_at IS NOT NULL"
    counts = {name: connection.execute(statement).fetchone()[0] for name, statement in tables.items()}
    connection.close()
    return counts
