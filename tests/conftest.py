"""How this suite runs: one event loop, which databases a test meets, and which tests may be repeated."""

import gc
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import fastapi.dependencies.utils
import pytest
from sqlalchemy.util import FacadeDict

from appkit.repository.base import Base
from tests.tables import tables_of

pytest_plugins = ["pytester", "tests.servers"]

HERE = Path(__file__).parent

# SQLite and PostgreSQL differ in the statements that they accept and in how transactions wait for each other. So the
# tests of packages that write statements run on both, and so do tests marked `both_databases`, because their
# transactions meet. All others reach a database through those packages: they run on SQLite, and on PostgreSQL among the
# slow tests.
WRITE_STATEMENTS = {"repository", "service", "tasks", "testing"}
REPEATS = 2
CLOCK_TESTS = 10  # At most: the others wait for a condition, count, or move the clock.


# Each app reads the signatures of the same 300 dependencies again, 20 ms of processor time for each test of an app.
fastapi.dependencies.utils.get_typed_signature = cache(fastapi.dependencies.utils.get_typed_signature)


@pytest.hookimpl(tryfirst=True)  # Before `-m` selects.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    clocks = set()
    for item in items:
        if _meets_postgresql(item) and not _meets_both_databases(item):
            item.add_marker(pytest.mark.slow)
        if clock := item.get_closest_marker("clock"):
            if not clock.kwargs.get("reason"):
                raise pytest.UsageError(f"{item.nodeid} must give the reason why it depends on the clock.")
            item.add_marker(pytest.mark.flaky(reruns=REPEATS))
            clocks.add(item.nodeid.partition("[")[0])
    if len(clocks) > CLOCK_TESTS:
        raise pytest.UsageError(
            f"{len(clocks)} tests are marked clock; {CLOCK_TESTS} may be. Wait for a condition instead."
        )


def _meets_postgresql(item: pytest.Item) -> bool:
    parameters = getattr(item, "callspec", None)
    return parameters is not None and "postgresql" in parameters.params.values()


def _meets_both_databases(item: pytest.Item) -> bool:
    package = item.path.relative_to(HERE).parts[0]
    return package in WRITE_STATEMENTS or item.get_closest_marker("both_databases") is not None


def pytest_collection_finish() -> None:
    gc.freeze()  # Else each full collection goes through all that was imported and collected.


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests were skipped and why, and which were repeated and how often."""
    stats = terminalreporter.stats
    skipped = Counter((report.nodeid.split("::")[0], report.longrepr[2]) for report in stats.get("skipped", []))
    repeated = Counter(report.nodeid for report in stats.get("rerun", []))
    lines = {
        "skipped tests": [f"{file}: {number}: {reason}" for (file, reason), number in sorted(skipped.items())],
        "repeated tests": [f"{test}: {number} of {REPEATS} times" for test, number in sorted(repeated.items())],
    }
    for title in filter(lines.get, lines):
        terminalreporter.section(title)
        terminalreporter.write("".join(f"{line}\n" for line in lines[title]))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asyncio only, as Taskiq is."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def _loop(anyio_backend: str) -> None:
    """One event loop for all tests: an async fixture of the session keeps it open."""


@pytest.fixture(autouse=True)
def _tables(request: pytest.FixtureRequest) -> Iterator[None]:
    """An app in a test has the tables that it would have alone in its process."""
    metadata = Base.metadata
    metadata.tables, before = FacadeDict(tables_of(request.module.__name__)), metadata.tables
    yield
    metadata.tables = FacadeDict({**metadata.tables, **before})
