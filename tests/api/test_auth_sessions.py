"""The devices that somebody is signed in on, on both databases."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from appkit.domain.events import SessionRevoked
from appkit.exceptions import (
    NotFoundException,
    ReauthenticationRequiredException,
    SessionRevokedException,
    UnauthorizedException,
)
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.testing.plugin import PASSWORD


@pytest.fixture
def new_browser(request):
    return request.getfixturevalue("_new_client")


@pytest.fixture
async def other_browser(new_browser, user):
    """A second device of the same person."""
    async with new_browser() as browser:
        credentials = {"email": user.email, "password": PASSWORD, "remember": True}
        response = await browser.post("/api/auth/signin", json=credentials, headers={"User-Agent": "Other/1.0"})
        assert response.status_code == 200
        yield browser


@pytest.fixture
async def stranger(new_browser, make_user):
    """Somebody else, signed in."""
    somebody = await make_user("stranger@example.com")
    async with new_browser() as browser:
        await browser.post("/api/auth/signin", json={"email": somebody.email, "password": PASSWORD})
        yield browser


@pytest.fixture
def make_stale(kit):
    """Lets so much time pass since everybody's last proof, and gives the browser a token that says so."""

    async def make_stale(browser, seconds=601):
        async with kit.session() as session:
            values = {"authenticated_at": utcnow() - timedelta(seconds=seconds)}
            await session.execute(update(AuthSession).values(values))
        assert (await browser.post("/api/auth/refresh")).status_code == 200

    return make_stale


async def test_sessions_list_ones_own_and_mark_the_current_one(auth_client, other_browser, stranger):
    body = (await auth_client.get("/api/auth/sessions")).json()
    assert [(row["current"], row["user_agent"], row["remember"]) for row in body] == [
        (False, "Other/1.0", True),
        (True, auth_client.headers["user-agent"], False),
    ]
    assert set(body[0]) == {
        "id", "current", "ip", "user_agent", "remember", "created_at", "last_seen_at", "expires_at",
    }  # fmt: skip
    assert body[0]["ip"] == "127.0.0.1"

    await auth_client.post("/api/auth/refresh")
    assert [row["current"] for row in (await auth_client.get("/api/auth/sessions")).json()] == [True, False]


@pytest.mark.parametrize("column", ["revoked_at", "expires_at", "idle_expires_at"])
async def test_sessions_list_only_live_ones(auth_client, other_browser, kit, column):
    async with kit.session() as session:
        ended = {column: utcnow() - timedelta(seconds=1)}
        await session.execute(update(AuthSession).where(AuthSession.remember).values(ended))
    assert [row["current"] for row in (await auth_client.get("/api/auth/sessions")).json()] == [True]


async def test_revoked_session_ends_at_once(auth_client, other_browser, user, events, assert_error):
    other = next(row for row in (await auth_client.get("/api/auth/sessions")).json() if not row["current"])
    assert (await auth_client.delete(f"/api/auth/sessions/{other['id']}")).status_code == 204
    assert_error(await other_browser.get("/api/auth/me"), SessionRevokedException)
    assert_error(await other_browser.post("/api/auth/refresh"), SessionRevokedException)
    assert (await auth_client.get("/api/auth/me")).status_code == 200
    revoked = [event for event in events if isinstance(event, SessionRevoked)]
    assert [(event.user_id, str(event.session_id)) for event in revoked] == [(user.id, other["id"])]
    assert_error(await auth_client.delete(f"/api/auth/sessions/{other['id']}"), NotFoundException)


async def test_session_of_another_user_is_not_found(auth_client, stranger, events, assert_error):
    (theirs,) = (await stranger.get("/api/auth/sessions")).json()
    for session_id in (theirs["id"], uuid4()):
        assert_error(await auth_client.delete(f"/api/auth/sessions/{session_id}"), NotFoundException)
    assert (await stranger.get("/api/auth/me")).status_code == 200
    assert not [event for event in events if isinstance(event, SessionRevoked)]


async def test_revoke_others_keeps_this_session_and_those_of_other_users(auth_client, other_browser, stranger, events):
    assert (await auth_client.post("/api/auth/sessions/revoke-others")).status_code == 204
    statuses = [(await one.get("/api/auth/me")).status_code for one in (auth_client, other_browser, stranger)]
    assert statuses == [200, 401, 200]
    assert len([event for event in events if isinstance(event, SessionRevoked)]) == 1


@pytest.mark.parametrize(("method", "path"), [("POST", "revoke-others"), ("DELETE", "{id}")])
async def test_ending_sessions_requires_a_recent_password(
    auth_client, other_browser, make_stale, assert_error, method, path
):
    """OWASP ASVS 7.5.2: a cookie thief must not lock the owner out."""
    rows = (await auth_client.get("/api/auth/sessions")).json()
    url = "/api/auth/sessions/" + path.format(id=next(row["id"] for row in rows if not row["current"]))
    await make_stale(auth_client)
    assert_error(await auth_client.request(method, url), ReauthenticationRequiredException)
    assert (await other_browser.get("/api/auth/me")).status_code == 200

    assert (await auth_client.post("/api/auth/reauth", json={"password": PASSWORD})).status_code == 204
    assert (await auth_client.request(method, url)).status_code == 204


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("DELETE", f"/{UUID(int=7)}"), ("POST", "/revoke-others"), ("POST", "/../reauth")]
)
async def test_sessions_require_a_signed_in_user(client, assert_error, method, path):
    body = {"json": {"password": PASSWORD}} if path.endswith("reauth") else {}
    assert_error(await client.request(method, f"/api/auth/sessions{path}", **body), UnauthorizedException)


async def test_session_notes_the_client_behind_a_trusted_proxy(client, kit, user, monkeypatch):
    http = kit.settings.http.model_validate({"trusted_proxies": ["127.0.0.1"]})
    monkeypatch.setattr(kit.context, "settings", kit.settings.model_copy(update={"http": http}))
    headers = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
    await client.post("/api/auth/signin", json={"email": user.email, "password": PASSWORD}, headers=headers)
    async with kit.session() as session:
        assert await session.scalar(select(AuthSession.ip)) == "198.51.100.7"
