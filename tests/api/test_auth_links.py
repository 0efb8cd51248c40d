"""Links in mails: to set a new password and to verify an address, each good once, on both databases."""

import asyncio
import json
import re
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from appkit.core.mail import Mail
from appkit.core.settings import FrontendSettings
from appkit.domain.events import EmailVerified, PasswordReset
from appkit.exceptions import (
    InvalidTokenException,
    SessionRevokedException,
    UnauthorizedException,
    UnprocessableException,
)
from appkit.plugins.markers import hookimpl
from appkit.repository.auth import AuthToken
from appkit.repository.base import utcnow
from appkit.repository.outbox import OutboxTask
from appkit.tasks import accounts
from appkit.testing.plugin import PASSWORD

NEW = "a staple that no horse corrects"


@pytest.fixture
def settings(settings):
    frontend = FrontendSettings(url="https://app.example.com/shop/")
    return settings.model_copy(update={"frontend": frontend})


@pytest.fixture
def new_browser(request):
    return request.getfixturevalue("_new_client")


def token_in(mail: Mail) -> str:
    found = re.search(r"https://app\.example\.com/shop/[\w-]+#token=([\w-]+)\n", mail.text)
    assert found
    return found[1]


@pytest.fixture
def mails_after(tasks, mailbox):
    """The mails that the tasks of this request sent."""

    async def mails_after(response):
        assert response.is_success, response.text
        mailbox.clear()
        await tasks.run()
        return list(mailbox)

    return mails_after


@pytest.fixture
def forget(client, user, mails_after):
    """Ask for a link to set a new password, and take its token out of the mail."""

    async def forget(email=user.email):
        (mail,) = await mails_after(await client.post("/api/auth/password/forgot", json={"email": email}))
        return token_in(mail)

    return forget


@pytest.fixture
def reset(client):
    async def reset(token, new=NEW):
        return await client.post("/api/auth/password/reset", json={"token": token, "new": new})

    return reset


@pytest.fixture
def signin(new_browser, user):
    async def signin(password):
        async with new_browser() as browser:
            response = await browser.post("/api/auth/signin", json={"email": user.email, "password": password})
            return response.status_code

    return signin


async def test_forgot_takes_as_long_for_an_unknown_address(client, user, tasks, count_queries):
    """What is done after the answer tells nobody anything."""
    seen = []
    for email in (user.email, "nobody@example.com"):
        with count_queries(max=20) as statements:
            response = await client.post("/api/auth/password/forgot", json={"email": email})
        jobs = len(await tasks.sent("send_reset", email=email))
        seen.append((response.status_code, response.content, [text.split()[0] for text in statements], jobs))
    assert seen[0] == seen[1]
    assert seen[0][0] == 202
    assert seen[0][3] == 1


async def test_reset_mail_is_delayed_randomly(client, user, kit, mails_after, monkeypatch):
    """Else whoever asks next waits for the mail of the one before, and knows that there was one."""
    asked = []

    class Dice:
        def uniform(self, *bounds):
            asked.append(bounds)
            return 0

    monkeypatch.setattr(accounts, "SystemRandom", Dice)
    monkeypatch.setitem(kit.settings.__dict__, "environment", "development")
    for email in (user.email, "nobody@example.com"):
        await mails_after(await client.post("/api/auth/password/forgot", json={"email": email}))
    assert asked == [(0, accounts.SPREAD)] * 2


async def test_forgot_mails_the_stored_address(client, user, mails_after):
    for email, receivers in ((user.email.upper(), [user.email]), ("nobody@example.com", [])):
        response = await client.post("/api/auth/password/forgot", json={"email": email})
        assert [mail.to for mail in await mails_after(response)] == receivers


@pytest.mark.parametrize("change", [{"is_active": False}, {"deleted_at": func.now()}])
async def test_forgot_mails_no_disabled_or_unknown_account(client, user, kit, mails_after, change):
    async with kit.session() as session:
        await session.execute(update(kit.context.user_model).values(change))
    assert await mails_after(await client.post("/api/auth/password/forgot", json={"email": user.email})) == []


async def test_reset_sets_the_password_ends_all_sessions_and_signs_nobody_in(
    auth_client, user, forget, reset, signin, events, assert_error
):
    response = await reset(await forget())
    assert response.status_code == 204
    assert set(response.cookies) == {"appkit_dv"}
    assert_error(await auth_client.get("/api/auth/me"), SessionRevokedException)
    assert_error(await auth_client.post("/api/auth/refresh"), SessionRevokedException)
    assert [await signin(PASSWORD), await signin(NEW)] == [401, 200]
    assert [event for event in events if isinstance(event, PasswordReset)] == [PasswordReset(user_id=user.id)]


async def test_reset_verifies_the_address_and_notifies_the_owner(kit, user, forget, reset, mails_after):
    mails = await mails_after(await reset(await forget()))
    assert [(mail.to, mail.subject) for mail in mails] == [(user.email, "Your password was changed")]
    async with kit.session() as session:
        assert (await session.get_one(kit.context.user_model, user.id)).email_verified


async def test_password_change_notifies_the_owner(auth_client, user, mails_after):
    response = await auth_client.post("/api/auth/password/change", json={"current": PASSWORD, "new": NEW})
    assert [(mail.to, mail.subject) for mail in await mails_after(response)] == [
        (user.email, "Your password was changed")
    ]


@pytest.mark.both_databases
async def test_reset_token_works_once(forget, reset, signin, assert_error):
    token = await forget()
    responses = await asyncio.gather(*(reset(token, f"{NEW} {number}") for number in range(6)))
    statuses = [response.status_code for response in responses]
    assert sorted(statuses) == [204] + [400] * 5
    assert await signin(f"{NEW} {statuses.index(204)}") == 200
    assert_error(await reset(token), InvalidTokenException)


async def test_reset_token_outlives_a_newer_request_but_not_a_reset(forget, reset, assert_error):
    """Else somebody who asks again and again voids each link before its owner can use it."""
    older, newer = await forget(), await forget()
    assert (await reset(older)).status_code == 204
    assert_error(await reset(newer), InvalidTokenException)


async def test_reset_mails_to_one_account_are_limited_while_a_link_is_valid(
    client, user, kit, forget, reset, mails_after
):
    for _ in range(10):
        await forget()
    for email in (user.email, user.email.upper()):
        assert await mails_after(await client.post("/api/auth/password/forgot", json={"email": email})) == []
    async with kit.session() as session:
        await session.execute(update(AuthToken).values(expires_at=utcnow() + timedelta(minutes=14)))
    await mails_after(await reset(await forget()))
    assert await forget()  # A new password voids all links, so the mailbox has none.


async def test_reset_mail_is_retried_after_many_failures(client, user, kit, tasks, monkeypatch):
    """Tokens whose mail failed don't count: else the owner gets no mail once the server works again."""

    async def fail(_):
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(kit.mailer, "send", fail)
        for _ in range(10):
            await client.post("/api/auth/password/forgot", json={"email": user.email})
        await tasks.run(check=False)
    assert kit.mailer.outbox == []
    await tasks.drain(advance=timedelta(days=1))
    assert len(kit.mailer.outbox) == 10


async def test_reset_token_is_invalid_after_it_expired(forget, reset, kit, signin, assert_error):
    token = await forget()
    async with kit.session() as session:
        expires_at = await session.scalar(select(AuthToken.expires_at))
        assert timedelta(minutes=29) < expires_at - utcnow() < timedelta(minutes=31)
        await session.execute(update(AuthToken).values(expires_at=utcnow()))
    assert_error(await reset(token), InvalidTokenException)
    assert await signin(PASSWORD) == 200


@pytest.mark.parametrize("change", [{"security_version": 2}, {"is_active": False}, {"deleted_at": func.now()}])
async def test_reset_token_is_invalid_after_the_account_changed(forget, reset, kit, assert_error, change):
    token = await forget()
    async with kit.session() as session:
        await session.execute(update(kit.context.user_model).values(change))
    assert_error(await reset(token), InvalidTokenException)


async def test_reset_loses_against_a_concurrent_password_change(forget, reset, kit, monkeypatch, assert_error):
    from appkit.service.hashing import PasswordPool

    hash_password, token = PasswordPool.hash, await forget()

    async def hash_then_change(*args):
        hashed = await hash_password(*args)
        async with kit.session() as session:
            await session.execute(update(kit.context.user_model).values(security_version=2))
        return hashed

    monkeypatch.setattr(PasswordPool, "hash", hash_then_change)
    assert_error(await reset(token), InvalidTokenException)


async def test_reset_with_a_refused_password_keeps_the_link_valid(forget, reset, assert_error):
    token = await forget()
    assert_error(await reset(token, "short"), UnprocessableException)
    assert (await reset(token)).status_code == 204


@pytest.mark.parametrize("token", ["", "x" * 43, "\ud800", "\0", "x" * 100_000, None, 5])
async def test_garbage_is_refused_as_a_token(client, token):
    for path, body in (("password/reset", {"token": token, "new": NEW}), ("email/verify", {"token": token})):
        content = json.dumps(body).encode()
        response = await client.post(f"/api/auth/{path}", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code in {400, 422}


async def test_tokens_are_stored_nowhere_in_plain_text(forget, kit):
    token = await forget()
    async with kit.session() as session:
        (row,) = (await session.scalars(select(AuthToken))).all()
        jobs = (await session.scalars(select(OutboxTask))).all()
    assert token not in str({column.key: getattr(row, column.key) for column in AuthToken.__table__.columns})
    assert token not in str([(job.payload, job.last_error) for job in jobs])


async def test_links_use_frontend_url_and_ignore_the_request(client, user, mails_after):
    """A forged Host would otherwise send the token to whoever sent it."""
    forged = {"Host": "evil.example.com", "X-Forwarded-Host": "evil.example.com"}
    response = await client.post("/api/auth/password/forgot", json={"email": user.email}, headers=forged)
    (mail,) = await mails_after(response)
    assert token_in(mail)
    assert "evil" not in mail.text + (mail.html or "")


async def test_signup_mails_a_verification_link(client, kit, mails_after, events, assert_error):
    ada = {"email": "Ada@example.com", "password": PASSWORD}
    (mail,) = await mails_after(await client.post("/api/auth/signup", json=ada))
    assert (mail.to, mail.subject) == ("Ada@example.com", "Verify your e-mail address")
    assert (await client.get("/api/auth/me")).json()["email_verified"] is False

    token = {"token": token_in(mail)}
    assert (await client.post("/api/auth/email/verify", json=token)).status_code == 204
    body = (await client.get("/api/auth/me")).json()
    assert body["email_verified"] is True
    assert [str(event.user_id) for event in events if isinstance(event, EmailVerified)] == [body["id"]]
    assert_error(await client.post("/api/auth/email/verify", json=token), InvalidTokenException)


async def test_tokens_work_for_their_purpose_only(auth_client, user, forget, reset, mails_after, assert_error):
    for_password = await forget()
    (mail,) = await mails_after(await auth_client.post("/api/auth/email/verify/resend"))
    verify = await auth_client.post("/api/auth/email/verify", json={"token": for_password})
    assert_error(verify, InvalidTokenException)
    assert_error(await reset(token_in(mail)), InvalidTokenException)
    access = await auth_client.post("/api/auth/email/verify", json={"token": auth_client.cookies["appkit_rt"]})
    assert access.status_code == 400


async def test_verification_is_for_the_address_that_was_mailed(auth_client, kit, mails_after, assert_error):
    (mail,) = await mails_after(await auth_client.post("/api/auth/email/verify/resend"))
    async with kit.session() as session:
        await session.execute(update(kit.context.user_model).values(email="other@example.com"))
    response = await auth_client.post("/api/auth/email/verify", json={"token": token_in(mail)})
    assert_error(response, InvalidTokenException)


@pytest.mark.parametrize("change", [{"is_active": False}, {"deleted_at": func.now()}])
async def test_verification_is_refused_for_a_closed_account(auth_client, kit, mails_after, assert_error, change):
    (mail,) = await mails_after(await auth_client.post("/api/auth/email/verify/resend"))
    async with kit.session() as session:
        await session.execute(update(kit.context.user_model).values(change))
    response = await auth_client.post("/api/auth/email/verify", json={"token": token_in(mail)})
    assert_error(response, InvalidTokenException)


async def test_resend_requires_a_signed_in_unverified_user(auth_client, client, kit, mails_after, assert_error):
    assert_error(await client.post("/api/auth/email/verify/resend"), UnauthorizedException)
    async with kit.session() as session:
        await session.execute(update(kit.context.user_model).values(email_verified_at=func.now()))
    assert await mails_after(await auth_client.post("/api/auth/email/verify/resend")) == []


async def test_plugin_can_write_a_mail(client, kit, user, mails_after):
    class Words:
        @hookimpl
        def write_mail(self, kind, user, to, link):
            return Mail(to=to, subject=f"{kind} of {user.email}", text=link) if kind == "reset_password" else None

    kit.plugins.register(Words())
    (mail,) = await mails_after(await client.post("/api/auth/password/forgot", json={"email": user.email}))
    assert mail.subject == f"reset_password of {user.email}"
    assert mail.text.startswith("https://app.example.com/shop/reset-password#token=")
    (mail,) = await mails_after(
        await client.post("/api/auth/signup", json={"email": "ada@example.com", "password": PASSWORD})
    )
    assert mail.subject == "Verify your e-mail address"
