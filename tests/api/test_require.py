"""What a route may ask of the person who asks, on both databases."""

from datetime import timedelta
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends
from sqlalchemy import update

from appkit.api.dependencies import require
from appkit.exceptions import (
    EmailNotVerifiedException,
    ForbiddenException,
    ReauthenticationRequiredException,
    SessionRevokedException,
    UnauthorizedException,
)
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.repository.user import BaseUser
from appkit.service.hashing import Security

router = APIRouter(prefix="/probe")


@router.get("/verified", dependencies=[Depends(require(verified=True))])
@router.get("/superuser", dependencies=[Depends(require(superuser=True))])
@router.get("/fresh", dependencies=[Depends(require(fresh=True))])
@router.get("/fresh-minute", dependencies=[Depends(require(fresh=60))])
async def read() -> str:
    return "allowed"


@router.get("/plain")
async def read_person(user: Annotated[BaseUser, Depends(require())]) -> str:
    return user.email


@pytest.fixture
def kit(kit):
    kit._routers = (router,)
    return kit


@pytest.fixture
def change(kit):
    async def change(row: Any, **values: object) -> None:
        async with kit.session() as session:
            await session.execute(update(row).values(values))

    return change


async def test_require_returns_the_user(auth_client, user):
    assert (await auth_client.get("/api/probe/plain")).json() == user.email


@pytest.mark.parametrize("path", ["plain", "verified", "superuser", "fresh"])
async def test_require_needs_a_signed_in_user(client, auth_client, assert_error, path):
    assert_error(await client.get(f"/api/probe/{path}"), UnauthorizedException)
    client.cookies.update(dict(auth_client.cookies))
    await auth_client.post("/api/auth/signout")
    assert_error(await client.get(f"/api/probe/{path}"), SessionRevokedException)


async def test_require_verified_needs_a_verified_address(auth_client, kit, change, assert_error):
    assert_error(await auth_client.get("/api/probe/verified"), EmailNotVerifiedException)
    await change(kit.context.user_model, email_verified_at=utcnow())
    assert (await auth_client.get("/api/probe/verified")).status_code == 200


async def test_require_superuser_needs_a_superuser(auth_client, admin_client, assert_error):
    assert_error(await auth_client.get("/api/probe/superuser"), ForbiddenException)
    assert (await admin_client.get("/api/probe/superuser")).status_code == 200


@pytest.mark.parametrize(
    ("path", "seconds", "allowed"),
    [("fresh", 590, True), ("fresh", 601, False), ("fresh-minute", 50, True), ("fresh-minute", 61, False)],
)
async def test_require_fresh_needs_a_recent_password(auth_client, change, assert_error, path, seconds, allowed):
    await change(AuthSession, authenticated_at=utcnow() - timedelta(seconds=seconds))
    await auth_client.post("/api/auth/refresh")
    response = await auth_client.get(f"/api/probe/{path}")
    if allowed:
        assert response.status_code == 200
    else:
        assert_error(response, ReauthenticationRequiredException)


async def test_refresh_does_not_count_as_fresh(auth_client, kit, change):
    then = utcnow().replace(microsecond=0) - timedelta(hours=1)
    await change(AuthSession, authenticated_at=then)
    await auth_client.post("/api/auth/refresh")
    tokens = Security.of(kit.context).tokens
    assert tokens.read_access(auth_client.cookies["appkit_at"]).authenticated_at == then
