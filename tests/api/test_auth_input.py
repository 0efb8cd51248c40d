"""What comes in over HTTP is checked, and not repeated, on both databases: one takes a NUL, the other breaks on it."""

import json

import pytest
from sqlalchemy import func, select

from appkit.exceptions import UnprocessableException
from appkit.testing.plugin import PASSWORD

ADA = {"email": "Ada@example.com", "password": PASSWORD}


@pytest.mark.parametrize("path", ["signup", "signin"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("password", "\ud800 is half a character"),
        ("password", "has a NUL \0"),
        ("password", "x" * 129),
        ("password", "x" * 1_000_000),
        ("password", 12345678),
        ("password", None),
        ("email", "ada\0@example.com"),
        ("email", "\ud800@example.com"),
        ("email", "ß@example.com"),
        ("email", "\u212aai@example.com"),
        ("email", "ada\uff20example.com"),
        ("email", ["ada@example.com"]),
        ("is_superuser", True),
        ("id", "0190a5ab-0000-7000-8000-000000000000"),
        ("email_verified_at", "2026-01-01T00:00:00Z"),
        ("security_version", 9),
    ],
)
async def test_invalid_input_is_refused_and_not_repeated(client, kit, caplog, assert_error, path, field, value):
    caplog.set_level("DEBUG")
    secret = "a secret that shows nowhere"
    response = await client.post(
        f"/api/auth/{path}",
        content=dumps({"email": "ada@example.com", "password": secret, field: value}),
        headers={"Content-Type": "application/json"},
    )
    problem = assert_error(response, UnprocessableException)
    assert [error["field"] for error in problem["errors"]] == [field]
    for text in (response.text, caplog.text):
        assert secret not in text
        assert str(value) not in text or field not in {"password", "email"} or value is None
    async with kit.session() as session:
        assert await session.scalar(select(func.count()).select_from(kit.context.user_model)) == 0


async def test_error_for_a_missing_address_does_not_contain_the_password(client, caplog, assert_error):
    caplog.set_level("DEBUG")
    response = await client.post("/api/auth/signup", json={"password": "hunter2 hunter2"})
    assert assert_error(response, UnprocessableException)["errors"][0]["field"] == "email"
    assert "hunter2" not in response.text + caplog.text


async def test_too_large_body_is_refused(client):
    response = await client.post("/api/auth/signup", json={**ADA, "password": "x" * 5_000_000})
    assert response.status_code == 413


@pytest.mark.parametrize("kind", ["text/plain", None, "application/x-www-form-urlencoded"])
async def test_only_json_bodies_are_accepted(client, user, kind):
    """CVE-2021-32677: a form of another site can send the others without asking."""
    content = f'{{"email": "{user.email}", "password": "{PASSWORD}"}}'.encode()
    if kind == "application/x-www-form-urlencoded":
        content = f"email={user.email}&password={PASSWORD}".encode()
    response = await client.post("/api/auth/signin", content=content, headers={"Content-Type": kind} if kind else {})
    assert response.status_code == 422
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("short", "Use at least 8 characters."),
        ("Iloveyou", "Choose another: this password is among the first that are tried."),
        ("ada@EXAMPLE.com", "Don't use your e-mail address or the app's name."),
    ],
)
async def test_signup_lists_what_is_wrong_with_a_password(client, assert_error, password, message):
    response = await client.post("/api/auth/signup", json={**ADA, "password": password})
    errors = assert_error(response, UnprocessableException)["errors"]
    assert [(error["field"], error["message"]) for error in errors] == [("password", message)]


async def test_password_is_compared_exactly_as_typed(client):
    typed = " пароль with a leading space, " + "🐎" * 30
    ada = {"email": "ada@example.com", "password": typed}
    assert (await client.post("/api/auth/signup", json=ada)).status_code == 201
    assert (await client.post("/api/auth/signin", json={**ada, "password": typed.strip()})).status_code == 401
    assert (await client.post("/api/auth/signin", json=ada)).status_code == 200


def dumps(body: object) -> bytes:
    """JSON that may hold a lone surrogate, as clients can send it."""
    return json.dumps(body, ensure_ascii=True).encode()


async def test_get_requests_change_nothing(app, client):
    """A picture on another site's page is fetched with GET, and a mail's links are opened by scanners."""
    paths = app.openapi()["paths"]
    changing = [path for path in paths if path.startswith("/api/auth/") and "get" not in paths[path]]
    assert len(changing) > 10
    for path in changing:
        answer = await client.get(path.replace("{session_id}", "0" * 32))
        assert answer.status_code == 405, path
