"""The rules of this suite itself: what is repeated, which databases a test meets, and what a test leaves behind."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, make_url

from tests import conftest
from tests.servers import PostgresDatabase

ROOT = Path(__file__).parents[2]

ONLY_PASSES_ALONE = """
import os

def test_claims_a_task_beside_another_worker():
    assert "PYTEST_XDIST_WORKER" not in os.environ
"""

CONFTEST = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.conftest import pytest_collection_modifyitems, pytest_terminal_summary
"""

SUITE = """
import pytest

times = iter(range(9))

@pytest.mark.clock(reason="It reads the clock.")
def test_clock():
    assert next(times) == 2

def test_other():
    assert next(times) == 9

@pytest.mark.parametrize("number", [1, 2])
def test_skipped(number):
    pytest.skip("No server.")
"""

MEETS_DATABASES = """
import pytest

@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request):
    return request.param

def test_one(database_url): ...

@pytest.mark.both_databases
def test_both(database_url): ...
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder for a suite of its own, run with the plugins that this one is run with."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:asyncio -p no:randomly")
    return pytester


def test_failure_beside_other_tests_fails_the_session(suite: pytest.Pytester) -> None:
    nox = pytest.importorskip("nox")
    spec = importlib.util.spec_from_file_location("noxfile", ROOT / "noxfile.py")
    assert spec is not None
    assert spec.loader is not None
    noxfile = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(noxfile)
    vars(noxfile)["PARALLEL"] = ("-n", "1")
    suite.makepyfile(ONLY_PASSES_ALONE)
    commands = []

    class Session:
        posargs: tuple[str, ...] = ()

        def run(self, *command: str) -> None:
            commands.append(command)
            if suite.run(sys.executable, "-m", *command).ret:
                raise nox.command.CommandFailed

    with pytest.raises(nox.command.CommandFailed):
        noxfile.run_tests(Session(), "pytest")
    assert len(commands) == 1


def test_repeated_and_skipped_tests_are_in_the_summary(suite: pytest.Pytester) -> None:
    suite.makeini("[pytest]\nmarkers = clock")
    suite.makeconftest(CONFTEST)
    suite.makepyfile(SUITE)
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1, skipped=2)
    result.stdout.fnmatch_lines(["*skipped tests*", "*.py: 2: Skipped: No server."])
    result.stdout.fnmatch_lines(["*repeated tests*", "*::test_clock: 2 of 2 times"])
    result.stdout.no_fnmatch_line("*::test_other: * times")


def test_test_marked_clock_gives_its_reason(suite: pytest.Pytester) -> None:
    items = suite.getitems("import pytest\n\n@pytest.mark.clock\ndef test_clock(): ...\n")
    with pytest.raises(pytest.UsageError, match="test_clock must give the reason"):
        conftest.pytest_collection_modifyitems(items)


def test_few_tests_are_marked_clock(suite: pytest.Pytester) -> None:
    marks = "@pytest.mark.clock(reason='It reads the clock.')\n@pytest.mark.parametrize('n', [1, 2])\n"
    items = suite.getitems("import pytest\n" + "".join(f"{marks}def test_{n}(n): ...\n" for n in range(11)))
    conftest.pytest_collection_modifyitems(items[:20])
    with pytest.raises(pytest.UsageError, match="11 tests are marked clock"):
        conftest.pytest_collection_modifyitems(items)


@pytest.mark.parametrize(("package", "slow"), [("api", ["test_one[postgresql]"]), ("repository", [])])
def test_databases_of_a_test_follow_from_its_package(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, package: str, slow: list[str]
) -> None:
    file = suite.mkpydir(package) / "test_databases.py"
    file.write_text(MEETS_DATABASES)
    items, _ = suite.inline_genitems(file)
    monkeypatch.setattr(conftest, "HERE", suite.path)
    conftest.pytest_collection_modifyitems(items)
    assert [item.name for item in items if item.get_closest_marker("slow")] == slow


@pytest.fixture
def database(postgres_server: URL) -> Any:
    database = PostgresDatabase(postgres_server)
    database.create_tables()
    yield database
    database.drop()


def catalog(database: PostgresDatabase) -> set[tuple[Any, ...]]:
    with connect(database) as connection:
        columns = connection.execute(
            "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        )
        return set(columns.fetchall())


def connect(database: PostgresDatabase) -> "psycopg.Connection[tuple[Any, ...]]":
    url = make_url(database.url).set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE effect (id serial PRIMARY KEY)",
        "INSERT INTO appkit_schedule VALUES ('nightly', '@daily', 'UTC', now(), false)",
        'ALTER TABLE "user" DROP COLUMN email',
        "DROP TABLE appkit_schedule",
        "CREATE SCHEMA ledgers; CREATE TABLE ledgers.page (id int)",
        "CREATE TYPE mood AS ENUM ('glad')",
        "ALTER TABLE appkit_schedule ADD CONSTRAINT named CHECK (name <> '')",
        "CREATE INDEX extra ON appkit_schedule (name)",
    ],
)
def test_database_of_a_test_process_is_emptied_whatever_a_test_did(database: PostgresDatabase, statement: str) -> None:
    before = catalog(database)
    with connect(database) as connection:
        connection.execute(statement)
        database.empty()  # Which ends this connection too.
    assert catalog(database) == before
    with connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM appkit_schedule").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM pg_indexes WHERE indexname = 'extra'").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM pg_constraint WHERE conname = 'named'").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM pg_type WHERE typname = 'mood'").fetchone() == (0,)
