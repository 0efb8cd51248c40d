"""`appkit db`."""

import json
import logging
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from appkit.cli import main

APP = """
from sqlalchemy import text
from appkit import AppKit, BaseTableModel, UserService

kit = AppKit()


async def seed(db):
    await UserService(db).create("ada@example.com", "correct horse battery")
    if (await db.scalar(text('SELECT count(*) FROM "user"'))) > 1:
        raise RuntimeError("twice")
"""
RISKY = """
from alembic import op

revision = "b2"
down_revision = {first!r}


def upgrade():
    op.drop_column("user", "locale")


def downgrade():
    pass
"""

Appkit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def appkit(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Appkit:
    """Runs the command in a folder with an app. Returns exit code, output and errors."""
    # Earlier tests may have configured logging in this process. The command doesn't configure logging.
    monkeypatch.setattr(logging.getLogger("alembic.runtime.migration"), "disabled", True)
    (folder / "seeded.py").write_text(APP)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["appkit", "db", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        output = capsys.readouterr()
        return int(stopped.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def first(appkit: Appkit) -> str:
    """The first migration, created and applied."""
    assert appkit("revision", "-m", "First")[0] == 0
    assert appkit("upgrade")[0] == 0
    (entry,) = json.loads(appkit("history", "--json")[1])
    return str(entry["revision"])


def test_sql_is_printed(appkit: Appkit, first: str) -> None:
    code, out, _ = appkit("sql")
    assert code == 0
    assert "CREATE TABLE auth_session" in out
    assert appkit("sql", "nonsense")[0] == 1


def test_lint_fails_and_shows_a_safe_way(appkit: Appkit, first: str, folder: Path) -> None:
    assert appkit("lint")[:2] == (0, "")
    (folder / "migrations" / "b2.py").write_text(RISKY.format(first=first))
    code, out, err = appkit("lint")
    assert code == 1
    assert "AK005 b2: user.locale" in out
    assert "Deploy code without it first" in out
    assert "# appkit: allow AK005 reason" in err
    code, out, _ = appkit("lint", f"{first}:head", "--json")
    assert code == 1
    assert [(found["code"], found["revision"]) for found in json.loads(out)] == [("AK005", "b2"), ("AK013", "b2")]
    assert appkit("lint", f"base:{first}", "--json") == (0, "[]\n", "")


def test_check_fails_when_there_are_two_heads(appkit: Appkit, first: str, folder: Path) -> None:
    assert appkit("check")[0] == 0
    for name in ("b2", "b3"):
        (folder / "migrations" / f"{name}.py").write_text(RISKY.replace("b2", name).format(first=first))
    code, out, err = appkit("check")
    assert code == 1
    assert "no single last migration: b2, b3. Set down_revision so that one follows the other" in out
    assert "models differ from the migrations" in err


def test_seed_runs_in_one_transaction_and_reset_deletes_it(appkit: Appkit, first: str) -> None:
    assert appkit("seed")[0] == 0
    assert appkit("reset", "--yes")[:2] == (0, "The database is up to date now.\n")
    assert appkit("seed")[0] == 0
    assert appkit("current")[0] == 0


def test_seed_without_a_function_says_where_to_define_it(appkit: Appkit, folder: Path) -> None:
    (folder / "seeded.py").write_text("from appkit import AppKit\n\nkit = AppKit()\n")
    code, _, err = appkit("seed")
    assert code == 1
    assert "seeded has no `async def seed(db)`" in err


def test_reset_asks_and_never_runs_in_production(
    appkit: Appkit, first: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("n\n"))
    code, out, err = appkit("reset")
    assert code == 1
    assert "app.db" in out + err
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("AUTH_SECRET_KEYS", '["gladiolus-and-thirty-more-letters-for-good"]')
    for name in [name for name in sys.modules if name == "seeded"]:
        del sys.modules[name]
    code, _, err = appkit("reset", "--yes")
    assert code == 1
    assert "This is production" in err
