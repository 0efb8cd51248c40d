"""What an attacker might send that no other test is about, on both databases."""

import asyncio
from collections import Counter

import pytest
from sqlalchemy import func, select

from appkit import Challenge, hookimpl
from appkit.exceptions import UnauthorizedException, UnprocessableException
from appkit.repository.auth import AuthSession
from appkit.testing.plugin import PASSWORD

NEW = "a staple that no horse corrects"


@pytest.fixture
def settings(settings):
    """A database with next to no connections."""
    small = settings.database.model_copy(update={"pool_size": 1, "pool_timeout": 10})
    return settings.model_copy(update={"database": small})


@pytest.fixture
def browse(request):
    return request.getfixturevalue("_new_client")


async def test_other_kinds_of_tokens_are_not_accepted_as_access_tokens(
    auth_client, client, user, tasks, mailbox, assert_error
):
    await client.post("/api/auth/password/forgot", json={"email": user.email})
    await tasks.run()
    others = (auth_client.cookies["appkit_rt"], auth_client.cookies["appkit_dv"], mailbox[0].text.split("\n\n")[1])
    for token in others:
        client.cookies.set("appkit_at", token)
        assert_error(await client.get("/api/auth/me"), UnauthorizedException)
    client.cookies.clear()
    for token in (auth_client.cookies["appkit_at"], auth_client.cookies["appkit_dv"]):
        client.cookies.set("appkit_rt", token)
        assert_error(await client.post("/api/auth/refresh"), UnauthorizedException)


async def test_opening_a_link_changes_nothing(auth_client, app):
    """A mail scanner follows links, and a picture may be one."""
    changing = [
        path
        for path, operations in app.openapi()["paths"].items()
        if "post" in operations and "get" not in operations and ("/auth/" in path or "/users/" in path)
    ]
    assert len(changing) > 15
    for path in changing:
        response = await auth_client.get(path.format(user_id="x", session_id="x"))
        assert response.status_code == 405, path


async def test_signin_refuses_user_ids_in_its_body(client, kit, user, make_user, assert_error):
    other = await make_user()
    for name in ("user_id", "id", "sub"):
        body = {"email": user.email, "password": PASSWORD, name: str(other.id)}
        assert_error(await client.post("/api/auth/signin", json=body), UnprocessableException)
    async with kit.session() as db:
        assert await db.scalar(select(func.count()).select_from(AuthSession)) == 0


async def test_reset_keeps_the_second_factor(client, kit, user, tasks, mailbox):
    class Codes:
        @hookimpl
        def before_signin(self):
            return Challenge(["totp"])

    kit.plugins.register(Codes())
    await client.post("/api/auth/password/forgot", json={"email": user.email})
    await tasks.run()
    body = {"token": mailbox[0].text.split("\n\n")[1], "new": NEW}
    response = await client.post("/api/auth/password/reset", json=body)
    assert response.status_code == 204
    assert "appkit_at" not in response.cookies
    signed = await client.post("/api/auth/signin", json={"email": user.email, "password": NEW})
    assert signed.json()["mfa_required"] is True


@pytest.mark.both_databases
async def test_signins_share_a_tiny_connection_pool_without_deadlock(user, browse):
    async def signin() -> int:
        async with browse() as browser:
            response = await browser.post("/api/auth/signin", json={"email": user.email, "password": PASSWORD})
            return int(response.status_code)

    async with asyncio.timeout(60):
        statuses = await asyncio.gather(*(signin() for _ in range(20)))
    assert Counter(statuses) == {200: 20}
