"""The plugin magic_link, on both databases."""

import asyncio
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from appkit.contrib import magic_link
from appkit.contrib.magic_link import MagicLinkRequested
from appkit.core.mail import Mail
from appkit.core.settings import FrontendSettings, LimitsSettings
from appkit.domain.events import AccountTakenOver, UserSignedIn
from appkit.exceptions import (
    InvalidTokenException,
    SessionRevokedException,
    TooManyRequestsException,
    UnauthorizedException,
    UnprocessableException,
)
from appkit.kit import AppKit
from appkit.plugins.markers import hookimpl
from appkit.repository.auth import AuthSession, AuthToken
from appkit.repository.plain_user import User
from appkit.service.hookspecs import Challenge
from appkit.testing.kits import rebuilt
from appkit.testing.plugin import PASSWORD


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"frontend": FrontendSettings(url="https://app.example.com/desk/")})


@pytest.fixture
def plugins():
    return [magic_link]


@pytest.fixture
def kit(settings, plugins):
    with rebuilt(AppKit(plugins=plugins, discover=False), settings) as kit:
        yield kit


@pytest.fixture
def ask(client, user, tasks, mailbox):
    """Request a link, and return the token from the mail."""

    async def ask(email=user.email):
        mailbox.clear()
        response = await client.post("/api/auth/magic", json={"email": email})
        assert (response.status_code, response.json()) == (202, None)
        await tasks.run()
        (mail,) = mailbox
        assert mail.to == user.email
        found = re.search(r"https://app\.example\.com/desk/magic-link#token=([\w-]+)\n", mail.text)
        assert found
        assert found[0].strip() in (mail.html or "")
        return found[1]

    return ask


@pytest.fixture
def follow(client):
    async def follow(token, browser=client, **more):
        return await browser.post("/api/auth/magic/signin", json={"token": token, **more})

    return follow


async def test_link_signs_in(ask, follow, client, user, db, events):
    response = await follow(await ask("USER@example.com"), remember=True)
    assert response.json()["id"] == str(user.id)
    me = (await client.get("/api/auth/me")).json()
    assert (me["email"], me["email_verified"]) == (user.email, True)
    session = await db.scalar(select(AuthSession))
    assert (session.amr, session.remember) == (["email"], True)
    assert UserSignedIn in map(type, events)


async def test_link_is_single_use(ask, follow, assert_error):
    token = await ask()
    assert (await follow(token)).status_code == 200
    assert_error(await follow(token), InvalidTokenException)


@pytest.mark.both_databases
async def test_parallel_uses_of_a_link_create_one_session(ask, follow):
    token = await ask()
    answers = await asyncio.gather(*(follow(token) for _ in range(6)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 5}


async def test_link_expires_after_fifteen_minutes(ask, follow, db, assert_error):
    token = await ask()
    row = await db.scalar(select(AuthToken))
    assert 890 < (row.expires_at - datetime.now(UTC)).total_seconds() <= 900
    await db.execute(update(AuthToken).values(expires_at=datetime.now(UTC)))
    assert_error(await follow(token), InvalidTokenException)


async def test_link_outlives_a_newer_one(ask, follow, db):
    """Else somebody who asks again and again voids each link before its owner can use it."""
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    first, second = await ask(), await ask()
    assert (await follow(first)).status_code == 200
    assert (await follow(second)).status_code == 200


async def test_link_with_another_purpose_is_refused(ask, follow, client, tasks, mailbox, user, assert_error):
    await client.post("/api/auth/password/forgot", json={"email": user.email})
    await tasks.run()
    (token,) = re.findall(r"#token=([\w-]+)\n", mailbox[-1].text)
    assert_error(await follow(token), InvalidTokenException)
    response = await client.post("/api/auth/password/reset", json={"token": await ask(), "new": "a long new password"})
    assert_error(response, InvalidTokenException)


async def test_token_is_stored_as_a_hash(ask, db):
    token = await ask()
    assert token not in set(await db.scalars(select(AuthToken.token_hash)))


async def test_response_does_not_reveal_whether_an_account_exists(client, user, tasks, mailbox, events):
    answers = [await client.post("/api/auth/magic", json={"email": email}) for email in (user.email, "no@example.com")]
    assert answers[0].status_code == answers[1].status_code == 202
    assert answers[0].content == answers[1].content
    assert [type(event) for event in events] == [MagicLinkRequested, MagicLinkRequested]
    await tasks.run()
    assert [mail.to for mail in mailbox] == [user.email]


async def test_disabled_account_gets_no_mail_and_is_not_signed_in(
    ask, follow, client, user, tasks, mailbox, db, assert_error
):
    token = await ask()
    await db.execute(update(User).values(is_active=False))
    assert_error(await follow(token), InvalidTokenException)
    mailbox.clear()
    await client.post("/api/auth/magic", json={"email": user.email})
    await tasks.run()
    assert mailbox == []


async def test_unverified_account_is_taken_over_by_the_owner_of_its_address(
    ask, follow, auth_client, request, user, events, assert_error
):
    async with request.getfixturevalue("_new_client")() as owner:
        assert (await follow(await ask(), owner)).status_code == 200
        assert_error(await auth_client.get("/api/auth/me"), SessionRevokedException)
        credentials = {"email": user.email, "password": PASSWORD}
        assert (await auth_client.post("/api/auth/signin", json=credentials)).status_code == 401
        assert (await owner.get("/api/auth/me")).status_code == 200
    assert AccountTakenOver in map(type, events)


async def test_verified_account_keeps_its_password(ask, follow, auth_client, user, db):
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    assert (await follow(await ask())).status_code == 200
    credentials = {"email": user.email, "password": PASSWORD}
    assert (await auth_client.post("/api/auth/signin", json=credentials)).status_code == 200


class AsksForMore:
    @hookimpl
    def before_signin(self, methods):
        return Challenge(["totp"]) if list(methods) == ["email"] else None


@pytest.mark.parametrize("plugins", [[magic_link, AsksForMore()]])
async def test_second_factor_is_required(ask, follow, client, plugins, assert_error):
    response = await follow(await ask())
    assert response.json()["factors"] == ["totp"]
    assert_error(await client.get("/api/auth/me"), UnauthorizedException)


class WritesMails:
    @hookimpl
    def write_mail(self, kind, user, to, link):
        return Mail(to=to, subject=f"{kind} for {user.email}", text=link)


@pytest.mark.parametrize("plugins", [[magic_link, WritesMails()]])
async def test_mail_can_be_written_by_a_plugin(client, user, tasks, mailbox, plugins):
    await client.post("/api/auth/magic", json={"email": user.email})
    await tasks.run()
    assert [mail.subject for mail in mailbox] == [f"magic_link for {user.email}"]


async def test_mails_to_one_account_are_limited_while_a_link_is_valid(ask, client, user, tasks, mailbox, db):
    for _ in range(10):
        await ask()
    for email in (user.email, user.email.upper()):
        assert (await client.post("/api/auth/magic", json={"email": email})).status_code == 202
    mailbox.clear()
    await tasks.run()
    assert mailbox == []
    await db.execute(update(AuthToken).values(expires_at=datetime.now(UTC) + timedelta(minutes=7)))
    assert await ask()


async def test_mail_is_retried_after_many_failures(client, user, kit, tasks, mailbox, monkeypatch):
    async def fail(_):
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(kit.mailer, "send", fail)
        for _ in range(10):
            await client.post("/api/auth/magic", json={"email": user.email})
        await tasks.run(check=False)
    await tasks.drain(advance=timedelta(days=1))
    assert len(mailbox) == 10


async def test_requests_of_one_client_are_limited(client, user, kit, settings, assert_error):
    kit.limiter._settings = settings.model_copy(update={"limits": LimitsSettings(enabled=True)})
    for _ in range(20):
        assert (await client.post("/api/auth/magic", json={"email": user.email})).status_code == 202
    assert_error(await client.post("/api/auth/magic", json={"email": user.email}), TooManyRequestsException)


@pytest.mark.parametrize("body", [{}, {"email": "no address"}, {"email": "a@example.com", "user_id": 1}])
async def test_malformed_address_is_refused(client, body, assert_error):
    assert_error(await client.post("/api/auth/magic", json=body), UnprocessableException)
