"""Who may sign up, and what that says about who has an account already, on both databases."""

import pytest
from sqlalchemy import func, select, update

from appkit.domain.events import SignupRepeated, UserCreated, UserSignedUp
from appkit.exceptions import InvalidCredentialsException, SignupClosedException, UnprocessableException
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.service.hashing import PasswordPool
from appkit.testing.plugin import PASSWORD


@pytest.fixture
def mode():
    return "private"


@pytest.fixture
def settings(settings, mode):
    auth = settings.auth.model_copy(update={"signup_mode": mode})
    return settings.model_copy(update={"auth": auth})


@pytest.fixture
def signup(client):
    async def signup(email, password=PASSWORD):
        return await client.post("/api/auth/signup", json={"email": email, "password": password})

    return signup


@pytest.fixture
def signin(client):
    async def signin(email, password=PASSWORD):
        return await client.post("/api/auth/signin", json={"email": email, "password": password})

    return signin


@pytest.fixture
def mails_after(tasks, mailbox):
    async def mails_after(response):
        assert response.is_success, response.text
        mailbox.clear()
        await tasks.run()
        return [(mail.to, mail.subject) for mail in mailbox]

    return mails_after


async def test_private_signup_gives_one_answer_and_mails_the_result(
    signup, kit, user, events, mails_after, monkeypatch
):
    hashed = []
    hash_password = PasswordPool.hash

    async def count(*args):
        hashed.append(args)
        return await hash_password(*args)

    monkeypatch.setattr(PasswordPool, "hash", count)
    async with kit.session() as session:
        await session.execute(update(kit.context.user_model).values(email_verified_at=utcnow()))
    seen, mails = [], []
    for email in ("free@example.com", user.email.upper()):
        response = await signup(email)
        headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
        seen.append((response.status_code, response.content, headers, len(hashed)))
        mails += await mails_after(response)
        hashed.clear()
    assert seen[0] == seen[1]
    assert (seen[0][0], seen[0][1], seen[0][3]) == (202, b"", 1)
    assert "set-cookie" not in seen[0][2]
    assert seen[0][2]["cache-control"] == "no-store"
    assert mails == [
        ("free@example.com", "Verify your e-mail address"),
        (user.email, "You have an account already"),
    ]
    happened = [type(event) for event in events if not isinstance(event, UserCreated)]  # The fixture made `user`.
    assert happened == [UserSignedUp, SignupRepeated]
    async with kit.session() as session:
        assert await session.scalar(select(func.count()).select_from(AuthSession)) == 0


async def test_repeated_private_signup_mails_another_verification(signup, mails_after):
    for _ in range(2):
        assert await mails_after(await signup("ada@example.com")) == [("ada@example.com", "Verify your e-mail address")]


async def test_private_signin_requires_a_verified_address_without_revealing_it(
    client, signup, signin, tasks, mailbox, assert_error
):
    await signup("ada@example.com")
    right, wrong = await signin("ada@example.com"), await signin("ada@example.com", "wrong horse")
    for response in (right, wrong):
        assert_error(response, InvalidCredentialsException)
        assert "set-cookie" not in response.headers
    await tasks.run()
    token = mailbox[0].text.split("\n\n")[1]
    assert (await client.post("/api/auth/email/verify", json={"token": token})).status_code == 204
    assert (await signin("ada@example.com")).status_code == 200


async def test_private_signup_lists_what_is_wrong_with_a_password(signup, user, assert_error):
    for email in ("free@example.com", user.email):
        assert_error(await signup(email, "short"), UnprocessableException)


@pytest.mark.parametrize("mode", ["closed"])
async def test_closed_signup_is_refused_and_creates_no_account(signup, kit, user, signin, assert_error):
    for email in ("free@example.com", user.email):
        assert_error(await signup(email), SignupClosedException)
    async with kit.session() as session:
        assert await session.scalar(select(func.count()).select_from(kit.context.user_model)) == 1
    assert (await signin(user.email)).status_code == 200
