"""Assertions for tests: error responses and SQL statements."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event

from appkit.exceptions import APIException

if TYPE_CHECKING:
    from httpx2 import Response


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

    Args:
        max: Fail when there are more statements, and list them.
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
