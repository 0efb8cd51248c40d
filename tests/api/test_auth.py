"""Signing up, in and out over HTTP, on both databases."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from appkit.domain.events import UserCreated, UserSignedIn, UserSignedOut, UserSignedUp
from appkit.exceptions import (
    EmailTakenException,
    InvalidCredentialsException,
    SessionRevokedException,
    TokenExpiredException,
    UnauthorizedException,
)
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.service.hashing import PasswordPool, Security
from appkit.testing.plugin import PASSWORD

ADA = {"email": "Ada@example.com", "password": PASSWORD}


@pytest.fixture
def new_browser(request):
    """Makes further browsers, with cookies of their own."""
    return request.getfixturevalue("_new_client")


async def test_signup_creates_an_account_and_signs_in(client, db, events):
    response = await client.post("/api/auth/signup", json=ADA)
    assert response.status_code == 201
    body = response.json()
    assert body == {
        "id": body["id"],
        "email": "Ada@example.com",
        "is_superuser": False,
        "email_verified": False,
        "created_at": body["created_at"],
    }
    assert (await client.get("/api/auth/me")).json() == body
    assert [(type(event), str(event.user_id)) for event in events] == [
        (UserCreated, body["id"]),
        (UserSignedUp, body["id"]),
        (UserSignedIn, body["id"]),
    ]


async def test_signup_ends_the_browsers_previous_session(auth_client, kit):
    assert (await auth_client.post("/api/auth/signup", json=ADA)).status_code == 201
    async with kit.session() as session:
        rows = await session.scalars(select(AuthSession.revoked_reason).order_by(AuthSession.created_at))
        assert rows.all() == ["replaced", None]


@pytest.mark.both_databases
async def test_concurrent_signups_with_one_address_create_one_account(new_browser, kit, assert_error):
    spellings = ["ada@example.com", "Ada@example.com", "ADA@EXAMPLE.COM"] * 10

    async def signup(email):
        async with new_browser() as browser:
            return await browser.post("/api/auth/signup", json={"email": email, "password": PASSWORD})

    responses = await asyncio.gather(*map(signup, spellings))
    assert sorted(response.status_code for response in responses) == [201] + [409] * 29
    for response in responses:
        if response.status_code == 409:
            assert_error(response, EmailTakenException)
    async with kit.session() as session:
        assert await session.scalar(select(func.count()).select_from(kit.context.user_model)) == 1
        assert await session.scalar(select(func.count()).select_from(AuthSession)) == 1


@pytest.fixture
def count_hashing(monkeypatch):
    """Counts how often passwords were hashed or verified: times would tell the same, and not on every machine."""
    counter: Counter[str] = Counter()

    for name in ("hash", "verify"):
        original = getattr(PasswordPool, name)

        def count(*args, name=name, original=original):
            counter[name] += 1
            return original(*args)

        monkeypatch.setattr(PasswordPool, name, count)
    return counter


async def test_signup_hashes_once_for_a_taken_address_too(client, user, count_hashing):
    for email, status in ((user.email, 409), ("free@example.com", 201)):
        count_hashing.clear()
        response = await client.post("/api/auth/signup", json={"email": email, "password": PASSWORD})
        assert (response.status_code, dict(count_hashing)) == (status, {"hash": 1})


async def test_signin_ignores_the_case_of_the_address(client, user, events):
    response = await client.post("/api/auth/signin", json={"email": user.email.upper(), "password": PASSWORD})
    assert response.status_code == 200
    assert response.json()["id"] == str(user.id)
    assert [(type(event), event.user_id) for event in events] == [(UserSignedIn, user.id)]


@pytest.mark.parametrize("case", ["unknown", "wrong", "disabled", "deleted", "no password"])
async def test_signin_gives_the_same_answer_for_every_wrong_credential(
    client, kit, user, count_hashing, assert_error, case
):
    changes: dict[str, dict[str, object]] = {
        "disabled": {"is_active": False},
        "deleted": {"deleted_at": utcnow()},
        "no password": {"hashed_password": None},
    }
    if case in changes:
        async with kit.session() as session:
            await session.execute(update(kit.context.user_model).values(changes[case]))
    email = "nobody@example.com" if case == "unknown" else user.email
    password = "wrong horse" if case == "wrong" else PASSWORD
    count_hashing.clear()

    response = await client.post("/api/auth/signin", json={"email": email, "password": password})
    problem = assert_error(response, InvalidCredentialsException)
    assert problem["detail"] == InvalidCredentialsException.detail
    assert set(problem) == {"type", "title", "status", "detail", "instance", "internal_code", "request_id"}
    assert response.headers["www-authenticate"] == "Bearer"
    assert "set-cookie" not in response.headers
    assert dict(count_hashing) == {"verify": 1}


async def test_signin_starts_a_new_session_and_ends_the_browsers_previous_one(
    client, new_browser, user, make_user, kit
):
    """Session fixation: a cookie that somebody planted is worth nothing after."""
    await make_user("mallory@example.com")
    async with new_browser() as attacker:
        await attacker.post("/api/auth/signin", json={"email": "mallory@example.com", "password": PASSWORD})
        planted = dict(attacker.cookies)
        client.cookies.update(planted)
        response = await client.post("/api/auth/signin", json={"email": user.email, "password": PASSWORD})
        assert response.status_code == 200
        fresh = {cookie.name: cookie.value for cookie in response.cookies.jar}
        assert fresh["appkit_at"] != planted["appkit_at"]
        assert (await attacker.get("/api/auth/me")).status_code == 401
    async with kit.session() as session:
        rows = (await session.execute(select(AuthSession.user_id, AuthSession.revoked_reason))).all()
    assert [reason for user_id, reason in rows if user_id == user.id] == [None]
    assert [reason for user_id, reason in rows if user_id != user.id] == ["replaced"]


async def test_signout_ends_the_session_at_once(auth_client, user, events, assert_error):
    stolen = dict(auth_client.cookies)
    response = await auth_client.post("/api/auth/signout")
    assert response.status_code == 204
    assert set(auth_client.cookies) == {"appkit_dv"}
    assert [(type(event), event.user_id) for event in events[-1:]] == [(UserSignedOut, user.id)]

    auth_client.cookies.update(stolen)
    assert_error(await auth_client.get("/api/auth/me"), SessionRevokedException)
    assert_error(await auth_client.post("/api/auth/refresh"), SessionRevokedException)


@pytest.mark.parametrize("missing", ["appkit_at", "appkit_rt"])
async def test_signout_works_with_either_cookie(auth_client, kit, missing):
    auth_client.cookies.delete(missing)
    assert (await auth_client.post("/api/auth/signout")).status_code == 204
    async with kit.session() as session:
        assert await session.scalar(select(AuthSession.revoked_reason)) == "signed_out"


async def test_signout_gives_the_same_answer_without_a_session(client, auth_client, events):
    assert (await client.post("/api/auth/signout")).status_code == 204
    client.cookies.set("appkit_at", "garbage")
    assert (await client.post("/api/auth/signout")).status_code == 204
    held = dict(auth_client.cookies)
    for _ in range(2):
        auth_client.cookies.update(held)
        assert (await auth_client.post("/api/auth/signout")).status_code == 204
    assert len([event for event in events if isinstance(event, UserSignedOut)]) == 1


async def test_me_requires_signing_in(client, assert_error):
    response = await client.get("/api/auth/me")
    problem = assert_error(response, UnauthorizedException)
    assert problem["internal_code"] == 40100
    assert response.headers["www-authenticate"] == "Bearer"


async def test_expired_token_has_its_own_code_and_still_signs_out(auth_client, kit, assert_error):
    Security.of(kit.context).tokens._ttl = timedelta(seconds=-11)  # The leeway is 10.
    assert (await auth_client.post("/api/auth/refresh")).status_code == 200
    assert_error(await auth_client.get("/api/auth/me"), TokenExpiredException)

    auth_client.cookies.delete("appkit_rt")
    assert (await auth_client.post("/api/auth/signout")).status_code == 204
    async with kit.session() as session:
        assert await session.scalar(select(AuthSession.revoked_reason)) == "signed_out"


@pytest.mark.parametrize("change", [{"is_active": False}, {"deleted_at": func.now()}, {"security_version": 2}])
async def test_me_and_refresh_refuse_a_closed_account(auth_client, kit, assert_error, change):
    async with kit.session() as session:
        await session.execute(update(kit.context.user_model).values(change))
    assert_error(await auth_client.get("/api/auth/me"), SessionRevokedException)
    assert_error(await auth_client.post("/api/auth/refresh"), SessionRevokedException)
    async with kit.session() as session:
        assert await session.scalar(select(AuthSession.refresh_seq)) == 0


@pytest.mark.parametrize("authorization", ["Bearer garbage", "Bearer", "Bearer ", "", "Basic dXNlcjpwYXNz", "\xff"])
async def test_authorization_header_replaces_the_cookies(auth_client, assert_error, authorization):
    """Else a request that was let through for its header would be done for its cookies."""
    headers = {"Authorization": authorization.encode("latin-1")}
    assert_error(await auth_client.get("/api/auth/me", headers=headers), UnauthorizedException)


async def test_only_access_tokens_are_accepted_as_bearer_tokens(auth_client, client, user):
    token = auth_client.cookies["appkit_at"]
    response = await client.get("/api/auth/me", headers={"Authorization": f"bearer {token}"})
    assert response.json()["id"] == str(user.id)
    assert (await client.get("/api/auth/me", headers={"Authorization": f"Basic {token}"})).status_code == 401
