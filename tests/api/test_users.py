"""The administration of users, for superusers."""

import pytest

from appkit.domain.events import SessionRevoked
from appkit.exceptions import (
    ConflictException,
    ForbiddenException,
    InvalidCredentialsException,
    NotFoundException,
    SessionRevokedException,
    UnauthorizedException,
    UnprocessableException,
)
from appkit.testing.plugin import PASSWORD

SOMEBODY = "/api/users/0190a5ab-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/users"),
        ("GET", SOMEBODY),
        ("POST", f"{SOMEBODY}/disable"),
        ("POST", f"{SOMEBODY}/enable"),
        ("POST", f"{SOMEBODY}/reset-password"),
        ("GET", f"{SOMEBODY}/sessions"),
        ("POST", f"{SOMEBODY}/sessions/revoke"),
    ],
)
async def test_users_are_for_superusers_only(client, auth_client, assert_error, method, path):
    assert_error(await client.request(method, path), UnauthorizedException)
    assert_error(await auth_client.request(method, path), ForbiddenException)


async def test_users_are_listed_page_by_page(admin_client, make_user):
    made = [(await make_user()).email for _ in range(3)]
    first = (await admin_client.get("/api/users", params={"size": 2})).json()
    second = (await admin_client.get("/api/users", params={"size": 2, "cursor": first["next_cursor"]})).json()
    assert [user["email"] for user in first["items"] + second["items"]] == [*made[::-1], "admin@example.com"]
    assert second["next_cursor"] is None
    assert set(first["items"][0]) == {
        "id",
        "email",
        "is_superuser",
        "email_verified",
        "created_at",
        "is_active",
        "last_signin_at",
    }


@pytest.mark.parametrize("query", [{"cursor": "made up"}, {"size": 0}, {"size": 201}])
async def test_users_with_a_bad_query_are_refused(admin_client, assert_error, query):
    assert_error(await admin_client.get("/api/users", params=query), UnprocessableException)


async def test_disabled_user_is_signed_out_and_can_sign_in_after_enabling(
    admin_client, auth_client, user, assert_error
):
    disabled = await admin_client.post(f"/api/users/{user.id}/disable")
    assert disabled.json()["is_active"] is False
    assert_error(await auth_client.get("/api/auth/me"), SessionRevokedException)
    await admin_client.post(f"/api/users/{user.id}/enable")
    assert (await admin_client.get(f"/api/users/{user.id}")).json()["is_active"] is True
    assert_error(await auth_client.get("/api/auth/me"), SessionRevokedException)


async def test_superusers_cannot_disable_themselves(admin_client, assert_error):
    me = (await admin_client.get("/api/auth/me")).json()
    assert_error(await admin_client.post(f"/api/users/{me['id']}/disable"), ConflictException)


async def test_unknown_user_is_not_found(admin_client, assert_error):
    assert_error(await admin_client.get(SOMEBODY), NotFoundException)
    assert_error(await admin_client.post(f"{SOMEBODY}/disable"), NotFoundException)


async def test_users_are_searched_and_filtered(admin_client, make_user):
    await make_user("ada@example.com")
    found = (await admin_client.get("/api/users", params={"q": "ADA", "active": True})).json()["items"]
    assert [user["email"] for user in found] == ["ada@example.com"]
    assert (await admin_client.get("/api/users", params={"superuser": False, "q": "admin"})).json()["items"] == []


async def test_forced_reset_ends_sessions_until_a_new_password_is_set(
    admin_client, auth_client, client, user, tasks, mailbox, assert_error
):
    response = await admin_client.post(f"/api/users/{user.id}/reset-password")
    assert response.status_code == 202
    assert_error(await auth_client.get("/api/auth/me"), SessionRevokedException)
    credentials = {"email": user.email, "password": PASSWORD}
    assert_error(await client.post("/api/auth/signin", json=credentials), InvalidCredentialsException)
    await tasks.run()
    (mail,) = mailbox
    assert (mail.to, mail.subject) == (user.email, "Set a new password")
    token = mail.text.split("\n\n")[1]
    new = {"token": token, "new": "a staple that no horse corrects"}
    assert (await client.post("/api/auth/password/reset", json=new)).status_code == 204
    credentials["password"] = new["new"]
    assert (await client.post("/api/auth/signin", json=credentials)).status_code == 200


async def test_superusers_see_and_end_sessions_of_a_user(admin_client, auth_client, user, events, assert_error):
    shown = (await admin_client.get(f"/api/users/{user.id}/sessions")).json()
    assert [session["current"] for session in shown] == [False]
    assert (await admin_client.post(f"/api/users/{user.id}/sessions/revoke")).status_code == 204
    assert_error(await auth_client.get("/api/auth/me"), SessionRevokedException)
    assert (await admin_client.get("/api/auth/me")).status_code == 200
    revoked = [event for event in events if isinstance(event, SessionRevoked)]
    admin = (await admin_client.get("/api/auth/me")).json()["id"]
    assert [(str(event.session_id), str(event.by)) for event in revoked] == [(shown[0]["id"], admin)]


async def test_superusers_cannot_set_or_see_passwords(admin_client, app, user):
    assert "hash" not in (await admin_client.get(f"/api/users/{user.id}")).text
    paths = {path: operations for path, operations in app.openapi()["paths"].items() if path.startswith("/api/users")}
    assert len(paths) == 7
    assert "requestBody" not in str(paths)
