"""The pages about migrations, followed to the letter."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import URL, text

from appkit.repository.database import Database
from appkit.repository.migrations import Migrations
from appkit.repository.migrations.lint import RULES, lint
from appkit.testing.database import fresh_database

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

KEEP_A_PAGE = """
import asyncio, bookmarks
from appkit import UserService

async def main():
    async with bookmarks.kit.lifespan(work=False), bookmarks.kit.session() as db:
        user = await UserService(db).create("ada@example.com", "correct horse battery")
        await bookmarks.BookmarkService(db).add(user.id, "https://example.com")

asyncio.run(main())
"""

Appkit = Callable[..., tuple[int, str]]


def code_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.fixture
def appkit(environment: dict[str, str]) -> Callable[[Path], Appkit]:
    def in_folder(directory: Path, **variables: str) -> Appkit:
        def run(*arguments: str) -> tuple[int, str]:
            done = subprocess.run(
                [sys.executable, "-m", "appkit", "db", *arguments],
                cwd=directory,
                env=environment | variables,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            return done.returncode, done.stdout + done.stderr

        return run

    return in_folder


@pytest.mark.slow
def test_tutorial_adds_a_column_and_is_kept_from_a_mistake(folder, appkit, python):
    directory = folder("bookmarks")
    program = directory / "bookmarks.py"
    run = appkit(directory)
    assert run("reset", "--yes") == (0, "There are no migrations, so the missing tables were created.\n")
    python(directory, "-c", KEEP_A_PAGE)
    assert run("revision", "-m", "First tables")[0] == 0
    assert run("upgrade") == (0, "The database is up to date now.\n")

    mistake, column, _, seed = code_of("tutorial/2-a-table-and-its-migration.md")
    before = program.read_text()
    program.write_text(before.replace("    title: Mapped[str | None]\n", f"    title: Mapped[str | None]\n{mistake}"))
    assert run("check")[1].splitlines()[:2] == ["DIFFERENCE", "add column bookmark.pinned"]
    assert run("revision", "-m", "Pin bookmarks")[0] == 0
    code, out = run("lint")
    assert code == 1
    assert all(sentence in out for sentence in ("AK001", "bookmark.pinned", *RULES["AK001"]))
    next((directory / "migrations").glob("*pin*")).unlink()

    program.write_text(before.replace("    title: Mapped[str | None]\n", f"    title: Mapped[str | None]\n{column}"))
    assert run("revision", "-m", "Pin bookmarks")[0] == 0
    assert run("lint") == (0, "")
    assert run("upgrade")[0] == 0
    assert run("downgrade", "-1")[0] == 0
    assert run("upgrade")[0] == 0
    assert run("check") == (0, "")
    assert rows(directory, "SELECT pinned FROM bookmark") == [(0,)]

    names = "from sqlalchemy.ext.asyncio import AsyncSession\nfrom appkit import UserService\n"
    program.write_text(f"{program.read_text()}\n{names}\n{seed}")
    assert run("reset", "--yes")[0] == 0
    assert run("seed")[0] == 0
    assert rows(directory, "SELECT url, pinned FROM bookmark") == [("https://example.com", 0)]


def rows(directory: Path, statement: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(directory / "app.db") as connection:
        found = connection.execute(statement).fetchall()
    connection.close()
    return found


BASE = """
import sqlalchemy as sa
from alembic import op

revision = "first"
down_revision = None


def upgrade() -> None:
    op.create_table("customer", sa.Column("id", sa.Integer, primary_key=True))
    op.create_table(
        "purchase",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("customer_id", sa.Integer),
        sa.Column("paid_at", sa.DateTime(timezone=True)),
    )


def downgrade() -> None:
    op.drop_table("purchase")
    op.drop_table("customer")
"""


@pytest.fixture
async def shop(postgres_server: URL, tmp_path: Path) -> AsyncIterator[Migrations]:
    (tmp_path / "first.py").write_text(BASE)
    for path in (DOCS / "snippets").glob("migration_*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    async with fresh_database(postgres_server.render_as_string(hide_password=False)) as url:
        database = Database(url)
        yield Migrations(database, tmp_path)
        await database.dispose()


async def test_migrations_without_downtime_pass_the_lint_and_run(shop):
    scripts = shop.scripts()
    assert len(scripts) == 5
    assert [finding for script in scripts for finding in lint(script)] == []
    assert await shop.upgrade() == "migrated"
    async with shop.database.read_session() as db:
        column = "SELECT is_nullable FROM information_schema.columns WHERE column_name = 'paid_at'"
        assert await db.scalar(text(column)) == "NO"
        invalid = "SELECT conname FROM pg_constraint WHERE NOT convalidated"
        assert (await db.scalars(text(invalid))).all() == []
    await shop.downgrade("base")


FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "9c1d"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "shelves",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.UniqueConstraint("name", name="uq_shelves_name"),
    )
    op.bulk_insert(sa.table("shelves", sa.column("name")), [{"name": "poetry"}])
"""


@pytest.mark.slow
def test_existing_history_goes_on(folder, appkit, python):
    """Alembic's own command makes the history, in a folder as `alembic init` leaves it."""
    directory = folder("join_alembic")
    python(directory, "-m", "alembic", "init", "alembic")
    configuration = directory / "alembic.ini"
    lines = configuration.read_text()
    configuration.write_text(
        re.sub(r"^sqlalchemy.url = .*$", "sqlalchemy.url = sqlite:///app.db", lines, flags=re.MULTILINE)
    )
    (directory / "alembic" / "versions" / "first.py").write_text(FIRST)
    python(directory, "-m", "alembic", "upgrade", "head")

    run = appkit(directory, DATABASE_MIGRATIONS="alembic/versions")
    assert "9c1d" in run("current")[1]
    code, out = run("check")
    assert code == 1
    assert "add table book" in out
    assert "shelves" not in out
    assert run("revision", "-m", "Add appkit's tables")[0] == 0
    assert run("lint", "9c1d:head") == (0, "")
    assert run("upgrade") == (0, "The database is up to date now.\n")
    assert rows(directory, "SELECT name FROM shelves") == [("poetry",)]
