import pytest
from httpx2 import Response
from sqlalchemy import create_engine, text

from appkit.exceptions import ConflictException, NotFoundException
from appkit.testing.checks import assert_error, count_queries


def problem(status: int, code: int) -> Response:
    body = {"status": status, "internal_code": code, "detail": "There is nothing here."}
    return Response(status, json=body, headers={"Content-Type": "application/problem+json"})


def test_assert_error_returns_the_document() -> None:
    assert assert_error(problem(404, 40400), NotFoundException)["detail"] == "There is nothing here."


@pytest.mark.parametrize(
    "response",
    [problem(404, 40401), problem(400, 40400), Response(404), Response(404, json={})],
    ids=["code", "status", "empty", "type"],
)
def test_assert_error_fails_for_anything_else(response: Response) -> None:
    with pytest.raises(AssertionError):
        assert_error(response, NotFoundException)


def test_assert_error_names_what_it_expected() -> None:
    with pytest.raises(AssertionError, match="Expected ConflictException .* got .* There is nothing here"):
        assert_error(problem(404, 40400), ConflictException)


def test_count_queries_keeps_the_statements_and_fails_beyond_the_limit() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        with count_queries() as statements:
            connection.execute(text("SELECT 1"))
            connection.execute(text("SELECT 2"))
        with pytest.raises(AssertionError, match=r"1 queries, 0 allowed:\s+SELECT 3"), count_queries(max=0):
            connection.execute(text("SELECT 3"))
        connection.execute(text("SELECT 4"))
    engine.dispose()
    assert statements == ["SELECT 1", "SELECT 2"]
