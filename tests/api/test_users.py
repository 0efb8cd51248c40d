"""The administration of users, for superusers."""

import pytest

from appkit.exceptions import (
    ConflictException,
    ForbiddenException,
    NotFoundException,
    SessionRevokedException,
    UnauthorizedException,
    UnprocessableException,
)

SOMEBODY = "/api/users/0190a5ab-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/users"), ("GET", SOMEBODY), ("POST", f"{SOMEBODY}/disable"), ("POST", f"{SOMEBODY}/enable")],
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
async def test_users_are_not_listed_from_nowhere(admin_client, assert_error, query):
    assert_error(await admin_client.get("/api/users", params=query), UnprocessableException)


async def test_a_disabled_user_is_out_at_once_and_signs_in_anew_once_enabled(
    admin_client, auth_client, user, assert_error
):
    disabled = await admin_client.post(f"/api/users/{user.id}/disable")
    assert disabled.json()["is_active"] is False
    assert_error(await auth_client.get("/api/auth/me"), SessionRevokedException)
    await admin_client.post(f"/api/users/{user.id}/enable")
    assert (await admin_client.get(f"/api/users/{user.id}")).json()["is_active"] is True
    assert_error(await auth_client.get("/api/auth/me"), SessionRevokedException)


async def test_superusers_can_t_lock_themselves_out(admin_client, assert_error):
    me = (await admin_client.get("/api/auth/me")).json()
    assert_error(await admin_client.post(f"/api/users/{me['id']}/disable"), ConflictException)


async def test_nobody_is_not_found(admin_client, assert_error):
    assert_error(await admin_client.get(SOMEBODY), NotFoundException)
    assert_error(await admin_client.post(f"{SOMEBODY}/disable"), NotFoundException)
