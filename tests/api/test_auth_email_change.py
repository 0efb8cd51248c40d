"""Changing one's address: by a link that was sent to the new one, on both databases."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import update

from appkit.core.settings import FrontendSettings
from appkit.domain.events import EmailChanged
from appkit.exceptions import (
    EmailTakenException,
    InvalidTokenException,
    ReauthenticationRequiredException,
    UnauthorizedException,
    UnprocessableException,
)
from appkit.repository.auth import AuthSession, AuthToken
from appkit.repository.base import utcnow
from appkit.testing.plugin import PASSWORD


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"frontend": FrontendSettings(url="https://app.example.com")})


@pytest.fixture
def mails_after(tasks, mailbox):
    async def mails_after(response):
        assert response.is_success, response.text
        mailbox.clear()
        await tasks.run()
        return list(mailbox)

    return mails_after


@pytest.fixture
def ask(auth_client, mails_after):
    """Ask to use an address, and take the token out of the mail to it."""

    async def ask(email):
        (mail,) = await mails_after(await auth_client.post("/api/auth/email/change", json={"email": email}))
        assert mail.to == email
        found = re.search(r"https://app\.example\.com/confirm-email#token=([\w-]+)\n", mail.text)
        assert found
        return found[1]

    return ask


@pytest.fixture
def confirm(client):
    async def confirm(token):
        return await client.post("/api/auth/email/change/confirm", json={"token": token})

    return confirm


async def test_address_changes_after_the_new_one_is_verified(auth_client, user, ask, confirm, events, mails_after):
    token = await ask("New@example.com")
    assert (await auth_client.get("/api/auth/me")).json()["email"] == user.email

    mails = await mails_after(await confirm(token))
    body = (await auth_client.get("/api/auth/me")).json()
    assert (body["email"], body["email_verified"]) == ("New@example.com", True)
    assert [(mail.to, mail.subject) for mail in mails] == [(user.email, "Your e-mail address was changed")]
    changed = [event for event in events if isinstance(event, EmailChanged)]
    assert changed == [EmailChanged(user_id=user.id, old_email=user.email)]
    signin = [
        (await auth_client.post("/api/auth/signin", json={"email": email, "password": PASSWORD})).status_code
        for email in (user.email, "new@example.com")
    ]
    assert signin == [401, 200]


async def test_new_address_is_the_one_that_the_link_was_sent_to(auth_client, user, ask, confirm, assert_error):
    """CVE-2026-32700: a link to one's own address must not prove somebody else's."""
    mine, theirs = await ask("mine@example.com"), await ask("theirs@example.com")
    assert_error(await confirm(mine), InvalidTokenException)
    assert (await auth_client.get("/api/auth/me")).json()["email"] == user.email
    assert (await confirm(theirs)).status_code == 204
    assert_error(await confirm(theirs), InvalidTokenException)


async def test_change_of_address_invalidates_earlier_links(
    auth_client, client, user, ask, confirm, mails_after, assert_error
):
    (mail,) = await mails_after(await client.post("/api/auth/password/forgot", json={"email": user.email}))
    for_password = mail.text.partition("#token=")[2].partition("\n")[0]
    assert (await confirm(await ask("new@example.com"))).status_code == 204
    body = {"token": for_password, "new": "a staple that no horse corrects"}
    assert_error(await client.post("/api/auth/password/reset", json=body), InvalidTokenException)


@pytest.mark.parametrize("change", [{"security_version": 2}, {"is_active": False}])
async def test_link_is_invalid_after_the_account_changed(kit, ask, confirm, assert_error, change):
    token = await ask("new@example.com")
    async with kit.session() as session:
        await session.execute(update(kit.context.user_model).values(change))
    assert_error(await confirm(token), InvalidTokenException)


async def test_link_is_invalid_after_it_expired(kit, ask, confirm, assert_error):
    token = await ask("new@example.com")
    async with kit.session() as session:
        await session.execute(update(AuthToken).values(expires_at=utcnow()))
    assert_error(await confirm(token), InvalidTokenException)


async def test_change_to_a_taken_address_is_not_revealed(auth_client, make_user, mails_after):
    taken = await make_user("taken@example.com")
    response = await auth_client.post("/api/auth/email/change", json={"email": taken.email.upper()})
    free = await auth_client.post("/api/auth/email/change", json={"email": "free@example.com"})
    assert (response.status_code, response.content) == (free.status_code, free.content)
    assert [mail.to for mail in await mails_after(free)] == ["free@example.com"]


async def test_address_taken_meanwhile_is_not_changed(auth_client, user, make_user, ask, confirm, assert_error):
    token = await ask("new@example.com")
    await make_user("NEW@example.com")
    assert_error(await confirm(token), EmailTakenException)
    assert (await auth_client.get("/api/auth/me")).json()["email"] == user.email


async def test_change_of_address_requires_a_recent_password(auth_client, client, kit, assert_error):
    body = {"email": "new@example.com"}
    assert_error(await client.post("/api/auth/email/change", json=body), UnauthorizedException)
    async with kit.session() as session:
        await session.execute(update(AuthSession).values(authenticated_at=utcnow() - timedelta(seconds=601)))
    await auth_client.post("/api/auth/refresh")
    assert_error(await auth_client.post("/api/auth/email/change", json=body), ReauthenticationRequiredException)
    assert (await auth_client.post("/api/auth/reauth", json={"password": PASSWORD})).status_code == 204
    assert (await auth_client.post("/api/auth/email/change", json=body)).status_code == 202


@pytest.mark.parametrize("email", ["ß@example.com", "no address", None])
async def test_change_of_address_requires_an_address(auth_client, assert_error, email):
    assert_error(await auth_client.post("/api/auth/email/change", json={"email": email}), UnprocessableException)
