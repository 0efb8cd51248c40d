"""Refreshing: once for each token, again for answers that got lost, and never for thieves."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from appkit.domain.events import RefreshReplayed
from appkit.exceptions import RefreshReplayedException, SessionRevokedException, UnauthorizedException
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.service.hashing import Security
from appkit.testing.plugin import PASSWORD


@pytest.fixture
def new_browser(request):
    return request.getfixturevalue("_new_client")


@pytest.fixture
def refresh(new_browser):
    """Refresh from a browser that holds this token alone."""

    async def refresh(token):
        async with new_browser() as browser:
            browser.cookies.set("appkit_rt", token)
            return await browser.post("/api/auth/refresh")

    return refresh


@pytest.fixture
def change_session(kit):
    async def change_session(**values):
        async with kit.session() as session:
            await session.execute(update(AuthSession).values(values))

    return change_session


@pytest.fixture
def read_session(kit):
    async def read_session():
        async with kit.session() as session:
            return (await session.scalars(select(AuthSession))).one()

    return read_session


async def test_refresh_returns_the_next_pair(auth_client, read_session):
    held = dict(auth_client.cookies)
    response = await auth_client.post("/api/auth/refresh")
    assert response.status_code == 200
    assert list(response.json()) == ["expires_at"]
    fresh = dict(response.cookies)
    assert set(fresh) == {"appkit_at", "appkit_rt"}
    assert set(fresh.values()).isdisjoint(held.values())
    assert (await auth_client.get("/api/auth/me")).status_code == 200
    assert (await auth_client.post("/api/auth/refresh")).status_code == 200
    row = await read_session()
    assert row.refresh_seq == 2
    assert row.last_seen_at is not None


@pytest.mark.both_databases
async def test_concurrent_refreshes_return_the_same_successor(auth_client, refresh, read_session):
    token = auth_client.cookies["appkit_rt"]
    responses = await asyncio.gather(*(refresh(token) for _ in range(50)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.cookies["appkit_rt"] for response in responses}) == 1
    assert (await read_session()).refresh_seq == 1


async def test_refresh_repeats_a_lost_response(auth_client, refresh):
    token = auth_client.cookies["appkit_rt"]
    lost, again = await refresh(token), await refresh(token)
    assert again.cookies["appkit_rt"] == lost.cookies["appkit_rt"]
    assert (await refresh(again.cookies["appkit_rt"])).status_code == 200


async def test_refresh_ends_the_session_of_a_token_used_twice(
    auth_client, refresh, change_session, read_session, events, user, assert_error
):
    """Who of the two is the thief can't be told, so both are out."""
    token = auth_client.cookies["appkit_rt"]
    newest = (await refresh(token)).cookies
    await change_session(rotated_at=utcnow() - timedelta(seconds=31))
    assert_error(await refresh(token), RefreshReplayedException)
    assert_error(await refresh(newest["appkit_rt"]), SessionRevokedException)
    auth_client.cookies.update(newest)
    assert_error(await auth_client.get("/api/auth/me"), SessionRevokedException)
    row = await read_session()
    assert row.revoked_reason == "refresh_replayed"
    assert events[-1] == RefreshReplayed(user_id=user.id, session_id=row.id)


async def test_refresh_ends_the_session_of_a_token_two_behind_even_in_time(auth_client, refresh, assert_error):
    first = auth_client.cookies["appkit_rt"]
    second = (await refresh(first)).cookies["appkit_rt"]
    assert (await refresh(second)).status_code == 200
    assert_error(await refresh(first), RefreshReplayedException)
    assert_error(await refresh(second), SessionRevokedException)


async def test_refresh_without_grace_accepts_a_token_once(auth_client, kit, refresh, monkeypatch, assert_error):
    monkeypatch.setattr(
        kit.context,
        "settings",
        kit.settings.model_copy(update={"auth": kit.settings.auth.model_copy(update={"refresh_grace": 0})}),
    )
    token = auth_client.cookies["appkit_rt"]
    assert (await refresh(token)).status_code == 200
    assert_error(await refresh(token), RefreshReplayedException)


@pytest.mark.both_databases
async def test_refresh_concurrent_with_signout_leaves_no_live_session(client, new_browser, user, refresh):
    credentials = {"email": user.email, "password": PASSWORD}
    for _ in range(60):
        await client.post("/api/auth/signin", json=credentials)
        token = client.cookies["appkit_rt"]
        refreshed, signed_out = await asyncio.gather(refresh(token), client.post("/api/auth/signout"))
        assert signed_out.status_code == 204
        if refreshed.status_code == 200:
            async with new_browser() as thief:
                thief.cookies.update(refreshed.cookies)
                assert (await thief.get("/api/auth/me")).status_code == 401
                assert (await thief.post("/api/auth/refresh")).status_code == 401


@pytest.mark.parametrize("damage", ["broken", "truncated", "next", "access", "missing", "garbage"])
async def test_refresh_refuses_foreign_tokens_and_keeps_the_session(
    auth_client, kit, refresh, read_session, assert_error, damage
):
    """Else anybody could end it by sending rubbish."""
    token = auth_client.cookies["appkit_rt"]
    row = await read_session()
    row.refresh_seq += 1
    guessed = Security.of(kit.context).tokens.issue(kit.context.user_model(id=row.user_id), row, {}).refresh
    sent = {
        "broken": token[:-2] + ("AA" if token[-2:] != "AA" else "BB"),
        "truncated": token[:-4],
        "next": guessed[:32] + token[32:],
        "access": auth_client.cookies["appkit_at"],
        "missing": "",
        "garbage": "%" * 75,
    }[damage]
    assert_error(await refresh(sent), UnauthorizedException)
    assert (await refresh(token)).status_code == 200


@pytest.mark.parametrize("limit", ["expires_at", "idle_expires_at"])
async def test_refresh_ends_with_the_session(auth_client, change_session, assert_error, limit):
    await change_session(**{limit: utcnow() - timedelta(seconds=1)})
    assert_error(await auth_client.get("/api/auth/me"), SessionRevokedException)
    assert_error(await auth_client.post("/api/auth/refresh"), SessionRevokedException)


@pytest.mark.parametrize("remember", [False, True])
async def test_refresh_moves_the_idle_limit_and_never_the_absolute_one(
    client, user, settings, read_session, change_session, remember
):
    body = {"email": user.email, "password": PASSWORD, "remember": remember}
    await client.post("/api/auth/signin", json=body)
    before = await read_session()
    auth = settings.auth
    idle, total = (auth.remember_idle_ttl, auth.remember_ttl) if remember else (auth.session_idle_ttl, auth.session_ttl)
    assert (before.expires_at - before.authenticated_at).total_seconds() == total
    await change_session(idle_expires_at=utcnow() + timedelta(seconds=5))
    assert (await client.post("/api/auth/refresh")).status_code == 200
    after = await read_session()
    assert after.expires_at == before.expires_at
    assert after.authenticated_at == before.authenticated_at
    assert abs((after.idle_expires_at - utcnow()).total_seconds() - idle) < 10


async def test_new_session_above_the_limit_ends_the_oldest(new_browser, kit, user, monkeypatch):
    monkeypatch.setattr(
        kit.context,
        "settings",
        kit.settings.model_copy(update={"auth": kit.settings.auth.model_copy(update={"max_sessions": 2})}),
    )
    browsers = []
    for _ in range(3):
        async with new_browser() as browser:
            await browser.post("/api/auth/signin", json={"email": user.email, "password": PASSWORD})
            browsers.append(dict(browser.cookies))
    statuses = []
    for cookies in browsers:
        async with new_browser() as browser:
            browser.cookies.update(cookies)
            statuses.append((await browser.get("/api/auth/me")).status_code)
    assert statuses == [401, 200, 200]
