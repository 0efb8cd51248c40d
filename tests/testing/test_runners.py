"""The fixtures under AnyIO, pytest-asyncio and pytest-xdist."""

import shutil
from pathlib import Path

import pytest

SNIPPETS = Path(__file__).parents[2] / "docs" / "snippets"
TESTS = (SNIPPETS / "test_bookmarks.py").read_text().count("\nasync def test_")

ANYIO = """
import pytest

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"
"""

POSTGRESQL = """
import os
import pytest
from appkit.testing.database import fresh_database

@pytest.fixture
async def database_url():
    async with fresh_database(os.environ["SERVER"]) as url:
        yield url
"""

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgresql"])
def conftest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the suite on one database."""
    if request.param == "sqlite":
        return ""
    server = request.getfixturevalue("postgres_server")
    monkeypatch.setenv("SERVER", server.render_as_string(hide_password=False))
    return POSTGRESQL


def run(pytester: pytest.Pytester, conftest: str, *options: str) -> None:
    pytester.makeconftest(conftest)
    for name in ("bookmarks.py", "test_bookmarks.py"):
        shutil.copy(SNIPPETS / name, pytester.path)
    settings = ("appkit_kit=bookmarks:kit", "filterwarnings=error")
    result = pytester.runpytest_subprocess(*options, *(f"-o{setting}" for setting in settings))
    result.assert_outcomes(passed=TESTS)


def test_fixtures_work_under_anyio(pytester: pytest.Pytester, conftest: str) -> None:
    run(pytester, ANYIO + conftest, "-p", "no:asyncio", "-oanyio_mode=auto")


def test_fixtures_work_under_pytest_asyncio(pytester: pytest.Pytester, conftest: str) -> None:
    pytest.importorskip("pytest_asyncio")
    run(pytester, conftest, "-oasyncio_mode=auto", "-oasyncio_default_fixture_loop_scope=function")


def test_fixtures_work_in_parallel(pytester: pytest.Pytester, conftest: str) -> None:
    pytest.importorskip("xdist")
    run(pytester, ANYIO + conftest, "-p", "no:asyncio", "-oanyio_mode=auto", "-n", "2")
