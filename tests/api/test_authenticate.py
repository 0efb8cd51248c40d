"""Credentials that a plugin recognises, on both databases."""

from typing import Annotated

import pytest
from fastapi import APIRouter, Depends
from sqlalchemy import select, update

from appkit import BaseUser, CurrentPrincipal, CurrentUser, OptionalUser, Principal, hookimpl, require
from appkit.exceptions import (
    ReauthenticationRequiredException,
    ScopeMissingException,
    SecondFactorRequiredException,
    SessionRequiredException,
    UnauthorizedException,
)

router = APIRouter(prefix="/probe")


@router.get("/user")
@router.post("/user")
async def read_user(user: CurrentUser) -> str:
    return user.email


@router.get("/optional")
async def read_optional(user: OptionalUser) -> str | None:
    return user.email if user else None


@router.get("/scoped")
async def read_scoped(user: Annotated[BaseUser, Depends(require(scopes={"posts:read"}))]) -> str:
    return user.email


@router.get("/principal")
async def read_principal(principal: CurrentPrincipal) -> list[str]:
    return sorted(principal.scopes or ())


@router.get("/fresh", dependencies=[Depends(require(fresh=True))])
@router.get("/mfa", dependencies=[Depends(require(mfa=True))])
async def read() -> str:
    return "allowed"


class Keys:
    """Knows `Bearer ak_SCOPES`, scopes with commas between, and whose it is."""

    @hookimpl
    async def authenticate(self, request, db):
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and key.startswith("ak_"):
            if key == "ak_broken":
                raise RuntimeError("The keys can't be read.")
            if key == "ak_unknown":
                raise UnauthorizedException
            model = db.info["appkit"].user_model
            user_id = await db.scalar(select(model.id))
            scopes = None if key == "ak_full" else frozenset(key.removeprefix("ak_").split(","))
            return Principal(user_id=user_id, scopes=scopes)
        return None


@pytest.fixture
def kit(kit):
    kit._routers = (router,)
    kit.plugins.register(Keys())
    return kit


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_hook_authenticate_sets_the_principal(client, user):
    assert (await client.get("/api/probe/user", headers=bearing("ak_full"))).json() == user.email
    assert (await client.get("/api/probe/optional", headers=bearing("ak_full"))).json() == user.email


async def test_hook_authenticate_can_leave_credentials_to_others(auth_client, client, user, assert_error):
    assert (await auth_client.get("/api/probe/user")).json() == user.email
    assert_error(await client.get("/api/probe/user", headers=bearing("else")), UnauthorizedException)
    assert_error(await client.get("/api/probe/user"), UnauthorizedException)


async def test_hook_authenticate_that_raises_refuses_the_request(auth_client, client, user, app):
    with pytest.raises(RuntimeError):
        await auth_client.get("/api/probe/user", headers=bearing("ak_broken"))
    assert (await auth_client.get("/api/probe/optional", headers=bearing("ak_unknown"))).status_code == 401


async def test_key_of_a_disabled_user_is_refused(client, kit, user, assert_error):
    async with kit.session() as db:
        await db.execute(update(kit.context.user_model).values(is_active=False))
    assert_error(await client.get("/api/probe/user", headers=bearing("ak_full")), UnauthorizedException)


async def test_key_with_scopes_opens_only_routes_that_require_them(client, user, assert_error):
    assert (await client.get("/api/probe/scoped", headers=bearing("ak_posts:read,other"))).json() == user.email
    assert_error(await client.get("/api/probe/scoped", headers=bearing("ak_other")), ScopeMissingException)
    assert_error(await client.get("/api/probe/user", headers=bearing("ak_posts:read")), ScopeMissingException)
    assert_error(await client.get("/api/probe/optional", headers=bearing("ak_posts:read")), ScopeMissingException)
    assert (await client.get("/api/probe/principal", headers=bearing("ak_b,a"))).json() == ["a", "b"]


async def test_key_with_scopes_opens_no_superuser_routes(client, make_user, assert_error):
    await make_user(superuser=True)
    assert (await client.get("/api/users", headers=bearing("ak_full"))).status_code == 200
    assert_error(await client.get("/api/users", headers=bearing("ak_posts:read")), ScopeMissingException)


async def test_signed_in_user_has_all_scopes_unless_the_token_limits_them(auth_client, kit, user, assert_error):
    assert (await auth_client.get("/api/probe/scoped")).json() == user.email

    class Roles:
        @hookimpl
        def token_claims(self):
            return [("scope", "posts:write drafts")]

    kit.plugins.register(Roles())
    await auth_client.post("/api/auth/refresh")
    assert_error(await auth_client.get("/api/probe/scoped"), ScopeMissingException)
    assert (await auth_client.get("/api/probe/principal")).json() == ["drafts", "posts:write"]
    assert (await auth_client.get("/api/probe/user")).json() == user.email


async def test_key_is_neither_fresh_nor_a_second_factor(client, user, auth_client, assert_error):
    assert_error(await client.get("/api/probe/fresh", headers=bearing("ak_full")), ReauthenticationRequiredException)
    assert_error(await client.get("/api/probe/mfa", headers=bearing("ak_full")), SecondFactorRequiredException)
    assert_error(await auth_client.get("/api/probe/mfa"), SecondFactorRequiredException)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "sessions", None),
        ("POST", "reauth", {"password": "x"}),
        ("POST", "password/change", {"current": "x", "new": "y"}),
    ],
)
async def test_key_opens_no_account_security_routes(client, user, assert_error, method, path, body):
    response = await client.request(method, f"/api/auth/{path}", json=body, headers=bearing("ak_full"))
    assert_error(response, SessionRequiredException)
