"""Assertions for tests: error responses, SQL statements and migrations."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, MetaData, event
from sqlalchemy.schema import CreateIndex, CreateTable

from appkit.exceptions import APIException

if TYPE_CHECKING:
    from httpx2 import Response

    from appkit.kit import AppKit


def assert_error(response: "Response", expected: type[APIException]) -> dict[str, Any]:
    """Fail unless the response is the problem document of this exception. Returns the document."""
    kind = response.headers.get("content-type", "")
    assert kind == "application/problem+json", f"Expected a problem, got {response.status_code} {kind}: {response.text}"
    problem: dict[str, Any] = response.json()
    found = (response.status_code, problem["status"], problem["internal_code"])
    wanted = (expected.status_code, expected.status_code, expected.internal_code)
    assert found == wanted, f"Expected {expected.__name__} {wanted}, got {found}: {problem['detail']}"
    return problem


@contextmanager
def count_queries(*, max: int | None = None) -> Iterator[list[str]]:  # noqa: A002 - reads best at the call
    """Collect the SQL statements of the block in order, without BEGIN and PRAGMA.

    With more than `max` statements, the assertion fails and lists them.
    """
    statements: list[str] = []

    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            statements.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", record)
    if max is not None:
        listing = "\n\n".join(statements)
        assert len(statements) <= max, f"{len(statements)} queries, {max} allowed:\n\n{listing}"


async def assert_migrations_reversible(kit: "AppKit") -> None:
    """Upgrade, downgrade and upgrade each of the kit's migrations, in a temporary database.

    Fails when a migration fails, or when its downgrade does not restore the tables.
    """
    from alembic import command

    from appkit.repository.engines import scratch_database
    from appkit.repository.migrations import Migrations

    migrations = Migrations(kit.database, kit.settings.database.migrations)
    async with scratch_database(kit.database.url) as connection:

        async def run(function: Callable[..., None], revision: str) -> set[str]:
            await connection.run_sync(migrations._alembic, function, revision)
            await connection.commit()
            schema = await connection.run_sync(_schema)
            await connection.commit()
            return schema

        before: set[str] = set()
        for script in reversed(migrations.scripts()):
            await run(command.upgrade, script.revision)
            after = await run(command.downgrade, "-1")
            changes = [f"lost: {line}" for line in before - after] + [f"left behind: {line}" for line in after - before]
            problem = f"The downgrade of {script.revision} ({script.doc}) is incomplete."
            assert not changes, "\n".join([problem, *changes])
            before = await run(command.upgrade, script.revision)


def _schema(connection: Connection) -> set[str]:
    """The lines of all CREATE statements. It is a set, because their order doesn't matter."""
    metadata = MetaData()
    metadata.reflect(connection)
    lines = set()
    for table in metadata.tables.values():
        if table.name != "alembic_version":
            created = str(CreateTable(table).compile(connection)).splitlines()
            lines |= {f"{table.name}: {line.strip().rstrip(',')}" for line in created if line.strip(" \t)")}
            lines |= {str(CreateIndex(index).compile(connection)) for index in table.indexes}
    return lines
