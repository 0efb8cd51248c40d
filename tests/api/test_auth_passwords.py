"""Entering a password again, and changing it, on both databases."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from appkit.domain.events import PasswordChanged, UserReauthenticated
from appkit.exceptions import (
    RefreshReplayedException,
    SessionRevokedException,
    UnauthorizedException,
    UnprocessableException,
    WrongPasswordException,
)
from appkit.plugins.markers import hookimpl
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.service.hashing import PasswordPool, Security
from appkit.testing.plugin import PASSWORD

NEW = "a staple that no horse corrects"
CHANGE = {"current": PASSWORD, "new": NEW}


@pytest.fixture
def new_browser(request):
    return request.getfixturevalue("_new_client")


@pytest.fixture
def signin(new_browser, user):
    async def signin(password):
        async with new_browser() as browser:
            return await browser.post("/api/auth/signin", json={"email": user.email, "password": password})

    return signin


@pytest.fixture
def try_tokens(new_browser):
    """What a pair is worth: the answers to it at `me` and at `refresh`, from a browser of its own."""

    async def try_tokens(cookies):
        async with new_browser() as browser:
            browser.cookies.update(cookies)
            return [await browser.get("/api/auth/me"), await browser.post("/api/auth/refresh")]

    return try_tokens


async def test_reauth_returns_a_pair_with_the_new_time(auth_client, kit, user, events):
    before = utcnow()
    async with kit.session() as session:
        await session.execute(update(AuthSession).values(authenticated_at=before - timedelta(hours=1)))
    held = dict(auth_client.cookies)
    assert (await auth_client.post("/api/auth/reauth", json={"password": PASSWORD})).status_code == 204
    assert all(auth_client.cookies[name] != held[name] for name in ("appkit_at", "appkit_rt"))
    principal = Security.of(kit.context).tokens.read_access(auth_client.cookies["appkit_at"])
    assert principal.authenticated_at >= before.replace(microsecond=0)
    assert (await auth_client.get("/api/auth/me")).status_code == 200
    assert (await auth_client.post("/api/auth/refresh")).status_code == 200
    again = [event for event in events if isinstance(event, UserReauthenticated)]
    assert again == [UserReauthenticated(user_id=user.id, session_id=principal.session_id)]


@pytest.mark.parametrize(("path", "body"), [("reauth", {"password": "wrong horse"}), ("password/change", CHANGE)])
async def test_wrong_password_is_refused_and_keeps_the_session(auth_client, assert_error, path, body):
    """A 401 would make clients sign out."""
    wrong = {**body, "current": "wrong horse"} if "current" in body else body
    response = await auth_client.post(f"/api/auth/{path}", json=wrong)
    assert_error(response, WrongPasswordException)
    assert "set-cookie" not in response.headers
    assert (await auth_client.get("/api/auth/me")).status_code == 200


async def test_password_change_ends_all_other_sessions(auth_client, new_browser, user, signin, events, assert_error):
    async with new_browser() as other:
        await other.post("/api/auth/signin", json={"email": user.email, "password": PASSWORD})
        held = dict(auth_client.cookies)
        assert (await auth_client.post("/api/auth/password/change", json=CHANGE)).status_code == 204
        assert all(auth_client.cookies[name] != held[name] for name in ("appkit_at", "appkit_rt"))
        assert_error(await other.get("/api/auth/me"), SessionRevokedException)
        assert_error(await other.post("/api/auth/refresh"), SessionRevokedException)
    assert (await auth_client.get("/api/auth/me")).status_code == 200
    assert (await auth_client.post("/api/auth/refresh")).status_code == 200
    assert [(await signin(password)).status_code for password in (PASSWORD, NEW)] == [401, 200]
    assert [event for event in events if isinstance(event, PasswordChanged)] == [PasswordChanged(user_id=user.id)]


async def test_password_change_invalidates_the_current_pair_without_grace(
    auth_client, new_browser, try_tokens, assert_error
):
    """Whoever stole it must not come along."""
    stolen = dict(auth_client.cookies)
    await auth_client.post("/api/auth/password/change", json=CHANGE)
    async with new_browser() as browser:
        browser.cookies.update(stolen)
        assert_error(await browser.post("/api/auth/password/change", json=CHANGE), SessionRevokedException)
    me, refresh = await try_tokens(stolen)
    assert_error(me, SessionRevokedException)
    assert_error(refresh, RefreshReplayedException)


async def test_reauth_invalidates_the_previous_refresh_token_without_grace(auth_client, try_tokens, assert_error):
    stolen = dict(auth_client.cookies)
    await auth_client.post("/api/auth/reauth", json={"password": PASSWORD})
    assert_error((await try_tokens(stolen))[1], RefreshReplayedException)


@pytest.mark.parametrize("new", ["short", "user@example.com", "x" * 129])
async def test_password_change_lists_what_is_wrong_with_the_new_password(auth_client, signin, assert_error, new):
    response = await auth_client.post("/api/auth/password/change", json={"current": PASSWORD, "new": new})
    assert {error["field"] for error in assert_error(response, UnprocessableException)["errors"]} == {"new"}
    assert (await signin(PASSWORD)).status_code == 200


async def test_password_change_passes_the_user_to_plugins(auth_client, kit, user, assert_error):
    class Picky:
        @hookimpl
        def check_password(self, user):
            return [f"Not for {user.email}."]

    kit.plugins.register(Picky())
    response = await auth_client.post("/api/auth/password/change", json=CHANGE)
    assert assert_error(response, UnprocessableException)["detail"] == f"Not for {user.email}."


@pytest.mark.both_databases
async def test_concurrent_password_changes_leave_one_winner(
    auth_client, new_browser, signin, monkeypatch, assert_error
):
    """All have been looked up before the first one writes: their session is good, and then their password isn't.

    Whoever is looked up later finds their session over, which is a 401: the test below.
    """
    verify, all_verified = PasswordPool.verify, asyncio.Barrier(6)

    async def verify_and_wait(*args):
        known = await verify(*args)
        await all_verified.wait()
        return known

    async def change(number):
        async with new_browser() as browser:
            browser.cookies.update(dict(auth_client.cookies))
            body = {"current": PASSWORD, "new": f"{NEW} {number}"}
            return await browser.post("/api/auth/password/change", json=body)

    with monkeypatch.context() as patch:
        patch.setattr(PasswordPool, "verify", verify_and_wait)
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*map(change, range(6)))
    (winner,) = (number for number, answer in enumerate(answers) if answer.status_code == 204)
    for answer in answers[:winner] + answers[winner + 1 :]:
        assert_error(answer, WrongPasswordException)
        assert "set-cookie" not in answer.headers
    assert [(await signin(f"{NEW} {number}")).status_code for number in range(6)] == [
        200 if number == winner else 401 for number in range(6)
    ]


async def test_password_change_holds_no_connection_while_hashing(auth_client, kit, monkeypatch):
    """On SQLite this is the writer, which everybody else would wait for."""
    held = []
    for name in ("hash", "verify"):
        original = getattr(PasswordPool, name)

        async def look(*args, original=original):
            held.append(kit.database.engine.pool.checkedout())
            return await original(*args)

        monkeypatch.setattr(PasswordPool, name, look)
    assert (await auth_client.post("/api/auth/password/change", json=CHANGE)).status_code == 204
    assert held == [0, 0]


async def test_session_ended_meanwhile_stays_ended(auth_client, kit, monkeypatch, assert_error):
    verify = PasswordPool.verify

    async def verify_then_revoke(*args):
        known = await verify(*args)
        async with kit.session() as session:
            await session.execute(update(AuthSession).values(revoked_at=func.now()))
        return known

    monkeypatch.setattr(PasswordPool, "verify", verify_then_revoke)
    for path, body in (("reauth", {"password": PASSWORD}), ("password/change", CHANGE)):
        async with kit.session() as session:
            await session.execute(update(AuthSession).values(revoked_at=None))
        assert_error(await auth_client.post(f"/api/auth/{path}", json=body), SessionRevokedException)
    async with kit.session() as session:
        assert await session.scalar(select(kit.context.user_model.security_version)) == 1


async def test_password_change_requires_a_signed_in_user(client, assert_error):
    assert_error(await client.post("/api/auth/password/change", json=CHANGE), UnauthorizedException)
