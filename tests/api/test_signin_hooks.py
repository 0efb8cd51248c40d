"""What plugins may do when somebody signs in: ask for a second proof, refuse, recognise, and sign in themselves."""

import asyncio

import pytest
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sqlalchemy import func, select, update

from appkit import (
    AppKit,
    AuthService,
    BaseUser,
    Challenge,
    DbSession,
    ForbiddenException,
    LinkService,
    SigninAnswer,
    complete_challenge,
    complete_signin,
    hookimpl,
)
from appkit.domain.events import UserSignedIn
from appkit.exceptions import InvalidTokenException, TooManyRequestsException, UnprocessableException
from appkit.repository.auth import AuthSession, AuthToken
from appkit.repository.base import utcnow
from appkit.service.hashing import Security
from appkit.testing.plugin import PASSWORD

router = APIRouter(prefix="/auth/probe")
CODE = "123456"


class Proof(BaseModel):
    challenge: str
    code: str


@router.post("/verify")
async def verify(payload: Proof, request: Request, response: Response, db: DbSession) -> SigninAnswer:
    await AuthService(db).challenged(payload.challenge)
    if payload.code != CODE:
        raise UnprocessableException("Wrong code.")
    return await complete_challenge(request, response, db, payload.challenge, methods=["otp"])


@router.post("/follow/{token}")
async def follow(token: str, request: Request, response: Response, db: DbSession) -> SigninAnswer:
    user = await LinkService(db).owner(token, "probe")
    await LinkService(db).consume(token, "probe")
    return await complete_signin(request, response, db, user, methods=["email"], remember=True)


class Codes:
    """Asks everybody for a code, unless they signed in with two proofs."""

    @hookimpl
    async def before_signin(self, user, methods, device):
        self.asked = (user.email, list(methods), device.ip)
        return None if "mfa" in methods else Challenge(["totp", "recovery_code"])


@pytest.fixture
def kit(kit):
    kit._routers = (router,)
    return kit


@pytest.fixture
def codes(kit):
    kit.plugins.register(plugin := Codes())
    return plugin


@pytest.fixture
def credentials(user):
    return {"email": user.email, "password": PASSWORD}


@pytest.fixture
def challenge(client, codes, credentials):
    async def challenge(**options):
        return (await client.post("/api/auth/signin", json=credentials | options)).json()["challenge"]

    return challenge


@pytest.fixture
def answer(client):
    def answer(challenge, code=CODE):
        return client.post("/api/auth/probe/verify", json={"challenge": challenge, "code": code})

    return answer


async def count_live(kit: AppKit) -> int | None:
    async with kit.session() as db:
        return await db.scalar(select(func.count()).select_from(AuthSession).where(AuthSession.revoked_at.is_(None)))


async def test_signin_with_a_challenge_starts_no_session(client, kit, codes, credentials, events):
    response = await client.post("/api/auth/signin", json=credentials)
    assert response.status_code == 200
    body = response.json()
    assert body == {"mfa_required": True, "challenge": body["challenge"], "factors": ["totp", "recovery_code"]}
    assert codes.asked == (credentials["email"], ["pwd"], "127.0.0.1")
    assert [line for line in response.headers.get_list("set-cookie") if "Max-Age=0" not in line] == []
    assert (await client.get("/api/auth/me")).status_code == 401
    assert await count_live(kit) == 0
    assert not [event for event in events if isinstance(event, UserSignedIn)]


async def test_signin_with_a_challenge_ends_the_browsers_previous_session(auth_client, kit, codes, credentials):
    await auth_client.post("/api/auth/signin", json=credentials)
    assert await count_live(kit) == 0
    assert set(auth_client.cookies) == {"appkit_dv"}


async def test_signup_asks_for_a_challenge_too(client, kit, codes):
    response = await client.post("/api/auth/signup", json={"email": "new@example.com", "password": PASSWORD})
    assert response.json()["mfa_required"] is True
    assert await count_live(kit) == 0


async def test_met_challenge_starts_the_requested_session(client, kit, challenge, answer, events):
    response = await answer(await challenge(remember=True))
    assert response.json()["email"] == "user@example.com"
    assert (await client.get("/api/auth/me")).status_code == 200
    async with kit.session() as db:
        row = (await db.scalars(select(AuthSession))).one()
    assert (row.amr, row.remember, row.kind) == (["pwd", "otp", "mfa"], True, "browser")
    assert Security.of(kit.context).tokens.read_access(client.cookies["appkit_at"]).mfa
    assert [event.session_id for event in events if isinstance(event, UserSignedIn)] == [row.id]


async def test_challenge_of_a_bearer_client_returns_tokens_in_the_body(kit, client, codes, credentials, answer):
    kit.settings.auth.__dict__["bearer_enabled"] = True
    body = (await client.post("/api/auth/token", json=credentials)).json()
    response = await answer(body["challenge"])
    assert "set-cookie" not in response.headers
    headers = {"Authorization": f"Bearer {response.json()['access_token']}"}
    assert (await client.get("/api/auth/me", headers=headers)).status_code == 200


@pytest.mark.both_databases
async def test_challenge_works_once_for_concurrent_requests(client, kit, challenge, answer):
    token = await challenge()
    statuses = [response.status_code for response in await asyncio.gather(*(answer(token) for _ in range(4)))]
    assert sorted(statuses) == [200, 400, 400, 400]
    assert await count_live(kit) == 1


@pytest.mark.both_databases
async def test_challenge_allows_five_attempts_concurrent_or_not(client, challenge, answer, assert_error):
    token = await challenge()
    tries = await asyncio.gather(*(answer(token, "wrong") for _ in range(12)))
    assert sorted(response.status_code for response in tries) == [400] * 7 + [422] * 5
    assert_error(await answer(token), InvalidTokenException)


async def test_attempts_of_all_challenges_of_an_account_count_together(client, kit, challenge, answer, assert_error):
    kit.settings.limits.__dict__["enabled"] = True
    for _ in range(2):
        token = await challenge()
        for _ in range(5):
            await answer(token, "wrong")
    assert_error(await answer(await challenge()), TooManyRequestsException)


async def test_challenge_of_one_device_keeps_those_of_others(challenge, answer):
    first, _ = await challenge(), await challenge()
    assert (await answer(first)).status_code == 200


@pytest.mark.parametrize("change", [{"security_version": 2}, {"is_active": False}], ids=["new password", "disabled"])
async def test_challenge_is_invalid_after_the_account_changed(kit, challenge, answer, assert_error, change):
    token = await challenge()
    async with kit.session() as db:
        await db.execute(update(kit.context.user_model).values(change))
    assert_error(await answer(token), InvalidTokenException)


async def test_challenge_expires_after_ten_minutes(kit, challenge, answer, assert_error):
    token = await challenge()
    async with kit.session() as db:
        await db.execute(update(AuthToken).values(expires_at=utcnow()))
    assert_error(await answer(token), InvalidTokenException)


async def test_signout_while_pending_invalidates_the_challenge(client, challenge, answer, assert_error):
    token = await challenge()
    assert (await client.post("/api/auth/signout", json={"challenge": token})).status_code == 204
    assert_error(await answer(token), InvalidTokenException)


async def test_hook_before_signin_may_refuse(client, kit, credentials, assert_error):
    class Closed:
        @hookimpl
        def before_signin(self):
            raise ForbiddenException("We are closed.")

    kit.plugins.register(Closed())
    assert assert_error(await client.post("/api/auth/signin", json=credentials), ForbiddenException)
    new = {"email": "new@example.com", "password": PASSWORD}
    assert_error(await client.post("/api/auth/signup", json=new), ForbiddenException)
    assert await count_live(kit) == 0
    async with kit.session() as db:
        assert await db.scalar(select(func.count()).select_from(kit.context.user_model)) == 1


async def test_hook_before_signin_is_not_asked_about_a_wrong_password(client, codes, credentials):
    response = await client.post("/api/auth/signin", json=credentials | {"password": "wrong horse"})
    assert response.status_code == 401
    assert not hasattr(codes, "asked")


async def make_link(kit: AppKit, user: BaseUser) -> str:
    async with kit.session() as db:
        return await LinkService(db).make(user, "probe", ttl=60, data={"next": "/"})


async def test_complete_signin_signs_in_a_user_identified_by_a_plugin(auth_client, kit, make_user):
    other = await make_user()
    response = await auth_client.post(f"/api/auth/probe/follow/{await make_link(kit, other)}")
    assert response.json()["email"] == other.email
    assert (await auth_client.get("/api/auth/me")).json()["id"] == str(other.id)
    async with kit.session() as db:
        rows = (await db.scalars(select(AuthSession).order_by(AuthSession.created_at))).all()
    assert [row.revoked_reason for row in rows] == ["replaced", None]
    assert (rows[1].amr, rows[1].remember) == (["email"], True)


async def test_complete_signin_asks_the_other_plugins(client, kit, user, codes):
    response = await client.post(f"/api/auth/probe/follow/{await make_link(kit, user)}")
    assert response.json()["mfa_required"] is True
    assert codes.asked[1] == ["email"]


async def test_complete_signin_refuses_a_disabled_account(client, kit, user):
    token = await make_link(kit, user)
    async with kit.session() as db:
        await db.execute(update(kit.context.user_model).values(is_active=False))
    assert (await client.post(f"/api/auth/probe/follow/{token}")).status_code == 400
    assert await count_live(kit) == 0


@pytest.mark.both_databases
async def test_link_of_a_plugin_is_used_once_and_carries_its_data(kit, user):
    token = await make_link(kit, user)

    async def use() -> dict[str, object]:
        async with kit.session() as db:
            return (await LinkService(db).consume(token, "probe")).data

    used = await asyncio.gather(*(use() for _ in range(12)), return_exceptions=True)
    assert [found for found in used if isinstance(found, dict)] == [{"next": "/"}]
    assert sum(isinstance(found, InvalidTokenException) for found in used) == 11
