"""Tokens for programs, on both databases: off unless asked for, and as good as a browser's."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from appkit.exceptions import (
    InvalidCredentialsException,
    NotFoundException,
    RefreshReplayedException,
    SessionRevokedException,
    UnauthorizedException,
)
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.testing.plugin import PASSWORD


@pytest.fixture
def enabled():
    return True


@pytest.fixture
def settings(settings, enabled):
    auth = settings.auth.model_copy(update={"bearer_enabled": enabled})
    return settings.model_copy(update={"auth": auth})


@pytest.fixture
def ask(client, user):
    async def ask(password=PASSWORD):
        return await client.post("/api/auth/token", json={"email": user.email, "password": password})

    return ask


@pytest.fixture
def refresh(client):
    async def refresh(token):
        return await client.post("/api/auth/token/refresh", json={"refresh_token": token})

    return refresh


@pytest.fixture
def me(client):
    async def me(token):
        return await client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})

    return me


async def test_token_signs_a_program_in_without_cookies(ask, me, user, kit):
    response = await ask()
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert set(body) == {"access_token", "refresh_token", "token_type", "expires_at"}
    assert (await me(body["access_token"])).json()["id"] == str(user.id)
    async with kit.session() as session:
        assert await session.scalar(select(AuthSession.kind)) == "bearer"


async def test_token_is_refreshed_once_and_ends_with_its_session(ask, refresh, me, kit, assert_error):
    first = (await ask()).json()
    second = (await refresh(first["refresh_token"])).json()
    assert (await me(second["access_token"])).status_code == 200
    async with kit.session() as session:
        await session.execute(update(AuthSession).values(rotated_at=utcnow() - timedelta(minutes=1)))
    assert_error(await refresh(first["refresh_token"]), RefreshReplayedException)
    assert_error(await me(second["access_token"]), SessionRevokedException)
    assert_error(await refresh(second["refresh_token"]), SessionRevokedException)


async def test_token_requires_the_password(ask, refresh, assert_error):
    assert_error(await ask("wrong horse"), InvalidCredentialsException)
    assert_error(await refresh("garbage"), UnauthorizedException)


@pytest.mark.parametrize("enabled", [False])
async def test_token_route_is_404_unless_enabled(ask, refresh, auth_client, assert_error):
    assert_error(await ask(), NotFoundException)
    assert_error(await refresh(auth_client.cookies["appkit_rt"]), NotFoundException)
