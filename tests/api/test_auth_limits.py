"""How often people may try, on both databases."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import func, select

from appkit import Event, hookimpl
from appkit.core.settings import LimitsSettings
from appkit.domain.events import GuessingSuspected, RateLimited, SigninFailed
from appkit.exceptions import TooManyRequestsException
from appkit.repository.auth import AuthSession
from appkit.service import auth
from appkit.service.hashing import PasswordPool
from appkit.service.users import UserService
from appkit.testing.plugin import PASSWORD

OTHER = "203.0.113.9"


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"limits": LimitsSettings(enabled=True)})


@pytest.fixture
def post(app):
    """A request from an address, in a browser that holds these cookies."""

    @asynccontextmanager
    async def browser(peer):
        transport = ASGITransport(app, client=(peer, 5000))
        headers = {"Sec-Fetch-Site": "same-origin"}
        async with AsyncClient(transport=transport, base_url="https://testserver", headers=headers) as client:
            yield client

    async def post(path, body=None, *, peer="198.51.100.7", cookies=None):
        async with browser(peer) as client:
            client.cookies.update(cookies or {})
            return await client.post(f"/api/auth/{path}", json=body)

    return post


@pytest.fixture
def signin(post, user):
    async def signin(password=PASSWORD, *, email=user.email, peer="198.51.100.7"):
        response = await post("signin", {"email": email, "password": password}, peer=peer)
        return response.status_code

    return signin


async def test_sixth_failed_signin_is_refused_with_retry_after(signin, post, user, assert_error):
    assert [await signin("wrong horse") for _ in range(5)] == [401] * 5
    response = await post("signin", {"email": user.email.upper(), "password": PASSWORD})
    assert_error(response, TooManyRequestsException)
    assert 290 <= int(response.headers["retry-after"]) <= 300
    assert "set-cookie" not in response.headers


async def test_failures_from_another_address_do_not_lock_out(signin):
    for _ in range(6):
        await signin("wrong horse")
    assert await signin(peer=OTHER) == 200
    assert await signin(email="other@example.com") == 401


async def test_failures_from_many_addresses_are_refused_by_account(signin):
    statuses = [await signin("wrong horse", peer=f"203.0.113.{number}") for number in range(21)]
    assert statuses == [401] * 20 + [429]


async def test_failures_from_many_addresses_do_not_lock_out_a_known_device(signin, post, user, auth_client):
    await auth_client.post("/api/auth/signout")
    device = dict(auth_client.cookies)
    for number in range(21):
        await signin("wrong horse", peer=f"203.0.113.{number}")
    credentials = {"email": user.email, "password": PASSWORD}
    assert (await post("signin", credentials, peer=OTHER)).status_code == 429
    assert (await post("signin", credentials, peer=OTHER, cookies=device)).status_code == 200


async def test_failures_from_many_addresses_do_not_lock_out_after_a_reset(signin, post, user, tasks, mailbox):
    for number in range(21):
        await signin("wrong horse", peer=f"203.0.113.{number}")
    await post("password/forgot", {"email": user.email}, peer=OTHER)
    await tasks.run()
    new = "a staple that no horse corrects"
    response = await post("password/reset", {"token": mailbox[0].text.split("\n\n")[1], "new": new}, peer=OTHER)
    device = dict(response.cookies)
    assert list(device) == ["appkit_dv"]
    credentials = {"email": user.email, "password": new}
    assert (await post("signin", credentials, peer=OTHER)).status_code == 429
    assert (await post("signin", credentials, peer=OTHER, cookies=device)).status_code == 200


async def test_device_has_one_failure_counter_for_all_addresses(post, user, auth_client):
    device = {"appkit_dv": auth_client.cookies["appkit_dv"]}
    wrong = {"email": user.email, "password": "wrong horse"}
    peers = [f"203.0.113.{number}" for number in range(6)]
    statuses = [(await post("signin", wrong, peer=peer, cookies=device)).status_code for peer in peers]
    assert statuses == [401] * 5 + [429]


async def test_device_cookie_counts_for_its_account_and_with_our_signature_only(signin, post, make_user, auth_client):
    other = await make_user("other@example.com")
    for number in range(21):
        await signin("wrong horse", email=other.email, peer=f"203.0.113.{number}")
        await signin("wrong horse", peer=f"203.0.113.{number}")
    ours = auth_client.cookies["appkit_dv"]
    forged = ours[:-3] + ("AAA" if ours[-3:] != "AAA" else "BBB")
    for email, token in ((other.email, ours), ("user@example.com", forged), ("user@example.com", "made up")):
        body = {"email": email, "password": PASSWORD}
        assert (await post("signin", body, peer=OTHER, cookies={"appkit_dv": token})).status_code == 429


@pytest.fixture
def is_locked_out(signin, post):
    """Whether a device with this cookie is locked out, after too many failures from new devices."""

    async def is_locked_out(cookie, *, email, password=PASSWORD):
        for number in range(21):
            await signin("wrong horse", email=email, peer=f"203.0.113.{number}")
        body = {"email": email, "password": password}
        status = (await post("signin", body, peer="192.0.2.5", cookies={"appkit_dv": cookie})).status_code
        assert status in {200, 429}
        return status == 429

    return is_locked_out


async def test_device_cookie_is_void_after_a_reset(is_locked_out, post, user, auth_client, tasks, mailbox):
    old, new = auth_client.cookies["appkit_dv"], "a staple that no horse corrects"
    await post("password/forgot", {"email": user.email})
    await tasks.run()
    await post("password/reset", {"token": mailbox[0].text.split("\n\n")[1], "new": new})
    assert await is_locked_out(old, email=user.email, password=new)


@pytest.mark.parametrize("change", ["take_over", "disable"])
async def test_device_cookie_is_void_after_the_security_version_rises(is_locked_out, auth_client, user, db, change):
    users = UserService(db)
    owner = await users.get(user.id)
    if change == "take_over":
        await users.take_over(owner)
    else:
        await users.disable(user.id)
        await users.enable(user.id)
    owner.hashed_password = user.hashed_password
    await db.commit()
    assert await is_locked_out(auth_client.cookies["appkit_dv"], email=user.email)


async def test_device_cookie_is_void_for_the_next_account_with_the_address(is_locked_out, auth_client, make_user, user):
    assert (await auth_client.delete("/api/auth/me")).status_code == 204
    await make_user(user.email)
    assert await is_locked_out(auth_client.cookies["appkit_dv"], email=user.email)


async def test_device_cookie_outlives_a_change_of_the_address(is_locked_out, auth_client, user, db):
    owner = await UserService(db).get(user.id)
    owner.email = owner.email_key = "renamed@example.com"
    await db.commit()
    assert not await is_locked_out(auth_client.cookies["appkit_dv"], email="renamed@example.com")


async def test_password_change_replaces_the_device_cookie(is_locked_out, auth_client, user):
    old, new = auth_client.cookies["appkit_dv"], "a staple that no horse corrects"
    body = {"current": PASSWORD, "new": new}
    assert (await auth_client.post("/api/auth/password/change", json=body)).status_code == 204
    assert await is_locked_out(old, email=user.email, password=new)
    assert not await is_locked_out(auth_client.cookies["appkit_dv"], email=user.email, password=new)


async def test_many_device_cookies_do_not_allow_more_guesses(signin, post, user):
    """Else each sign-in of somebody who knew the password once is worth five more guesses."""
    body = {"email": user.email, "password": PASSWORD}
    devices = [dict((await post("signin", body, peer=f"203.0.113.{number}")).cookies) for number in range(6)]
    wrong = {**body, "password": "wrong horse"}
    guesses = [
        (await post("signin", wrong, peer=f"192.0.2.{number}", cookies=device)).status_code
        for number, device in enumerate(devices)
        for _ in range(5)
    ]
    assert guesses == [401] * 20 + [429] * 10
    assert await signin(peer=OTHER) == 200


@pytest.mark.both_databases
async def test_concurrent_failures_count(signin, monkeypatch):
    """Before a password is looked at: else all twelve are, and whoever guesses learns what the answer doesn't say."""
    looked_at, verify = [], PasswordPool.verify

    async def verify_and_count(*args):
        looked_at.append(args)
        return await verify(*args)

    monkeypatch.setattr(PasswordPool, "verify", verify_and_count)
    statuses = Counter(await asyncio.gather(*(signin("wrong horse") for _ in range(12))))
    assert statuses == {401: 5, 429: 7}
    assert len(looked_at) == 5


async def test_concurrent_guesses_do_not_pass_the_limit_of_the_account(signin, monkeypatch, db):
    """Else guesses from many addresses at once are all checked, and only the wrong ones are refused."""
    checking, failed, verify = asyncio.Event(), asyncio.Event(), PasswordPool.verify

    async def verify_slowly(pool, hashed, password):
        if password == PASSWORD:
            checking.set()
            await failed.wait()
        return await verify(pool, hashed, password)

    monkeypatch.setattr(PasswordPool, "verify", verify_slowly)
    guess = asyncio.create_task(signin(peer=OTHER))
    await checking.wait()
    assert [await signin("wrong horse", peer=f"192.0.2.{number}") for number in range(20)] == [401] * 20
    failed.set()
    assert await guess == 429
    assert await db.scalar(select(func.count()).select_from(AuthSession)) == 0


async def test_success_resets_failures_of_this_account_and_address(signin):
    for _ in range(3):
        assert [await signin("wrong horse") for _ in range(4)] == [401] * 4
        assert await signin() == 200


async def test_success_does_not_reset_attempts_of_the_address(signin):
    """Else a password of one's own buys guesses at everybody's."""
    statuses = []
    for number in range(16):
        statuses += [await signin(), await signin("wrong horse", email=f"victim{number}@example.com")]
    assert statuses[:30] == [200, 401] * 15
    assert statuses[30:] == [429, 429]


async def test_success_does_not_reset_failures_of_other_addresses(signin):
    for number in range(19):
        await signin("wrong horse", peer=f"203.0.113.{number}")
    assert await signin() == 200
    assert [await signin("wrong horse", peer=f"203.0.113.{number}") for number in (100, 101)] == [401, 429]


async def test_refused_attempts_are_not_hashed(signin, monkeypatch):
    for _ in range(5):
        await signin("wrong horse")

    async def verify(*_):
        pytest.fail("A password was hashed.")

    monkeypatch.setattr(PasswordPool, "verify", verify)
    assert await signin() == 429


async def test_addresses_of_one_ipv6_network_share_a_counter(signin):
    statuses = [await signin("wrong horse", peer=f"2001:db8:1:2::{number}") for number in range(1, 7)]
    assert statuses == [401] * 5 + [429]


async def test_signups_with_one_address_are_limited(post):
    body = {"email": "ada@example.com", "password": PASSWORD}
    statuses = [(await post("signup", body, peer=f"203.0.113.{number}")).status_code for number in range(6)]
    assert statuses[5] == 429
    assert 429 not in statuses[:5]


@pytest.mark.parametrize("requests", [5, 30])
async def test_owner_on_a_new_device_gets_in_whatever_others_request(signin, post, user, tasks, mailbox, requests):
    for number in range(24):
        await signin("wrong horse", peer=f"192.0.2.{number // 4}")
    for number in range(requests):
        assert (await post("password/forgot", {"email": user.email}, peer=f"192.0.2.{number}")).status_code == 202
    assert (await post("password/forgot", {"email": user.email}, peer=OTHER)).status_code == 202
    await tasks.run()
    assert len(mailbox) == min(requests + 1, 10)
    token = mailbox[-1].text.split("\n\n")[1]
    await post("password/forgot", {"email": user.email}, peer="192.0.2.200")
    await tasks.run()
    new = "a staple that no horse corrects"
    response = await post("password/reset", {"token": token, "new": new}, peer=OTHER)
    assert response.status_code == 204
    body = {"email": user.email, "password": new}
    assert (await post("signin", body, peer=OTHER, cookies=dict(response.cookies))).status_code == 200


@pytest.mark.parametrize("path", ["signup", "password/forgot"])
async def test_mails_from_one_client_are_limited(post, path):
    password = {"password": PASSWORD} if path == "signup" else {}
    responses = [await post(path, {"email": f"user{number}@example.com"} | password) for number in range(21)]
    assert [response.status_code for response in responses][19:] == [201 if password else 202, 429]
    assert 3590 <= int(responses[20].headers["retry-after"]) <= 3600


async def test_resend_is_limited_to_one_in_three_minutes(auth_client, assert_error):
    assert (await auth_client.post("/api/auth/email/verify/resend")).status_code == 202
    assert_error(await auth_client.post("/api/auth/email/verify/resend"), TooManyRequestsException)


async def test_refresh_is_limited_by_session_and_keeps_the_cookies(auth_client, post):
    cookies = dict(auth_client.cookies)
    responses = [await post("refresh", cookies=cookies, peer=f"203.0.113.{number}") for number in range(31)]
    assert [response.status_code for response in responses] == [200] * 30 + [429]
    assert "set-cookie" not in responses[30].headers


@pytest.mark.parametrize(
    ("path", "body"),
    [("reauth", {"password": "wrong"}), ("password/change", {"current": "wrong", "new": "another good one"})],
)
async def test_reauth_is_limited_by_user(auth_client, post, path, body):
    cookies = dict(auth_client.cookies)
    peers = [f"203.0.113.{number}" for number in range(11)]
    statuses = [(await post(path, body, cookies=cookies, peer=peer)).status_code for peer in peers]
    assert statuses == [403] * 10 + [429]


async def test_rate_limited_event_is_emitted_once_per_window(kit, signin, post, user, auth_client, tasks, events):
    """Else whoever is refused could fill the database with it."""

    class Trail:
        seen: ClassVar[list[Event]] = []

        @hookimpl
        async def on_event(self, event):
            self.seen.append(event)

    kit.plugins.register(trail := Trail())
    for _ in range(9):
        await signin("wrong horse")
    for _ in range(2):
        assert await signin("wrong horse", peer=OTHER) == 401
    cookies = dict(auth_client.cookies)
    for _ in range(12):
        await post("reauth", {"password": PASSWORD}, cookies=cookies, peer=OTHER)
        cookies = dict(auth_client.cookies)
    told = [event for event in events if isinstance(event, RateLimited)]
    assert told == [
        RateLimited(action="signin", ip="198.51.100.7", user_id=None),
        RateLimited(action="proof", ip=OTHER, user_id=user.id),
    ]
    await tasks.run()
    assert [event for event in trail.seen if isinstance(event, RateLimited)] == told


async def test_refusal_stays_429_when_the_event_cannot_be_emitted(kit, signin, monkeypatch, caplog):
    def broken(_):
        raise RuntimeError

    for _ in range(5):
        await signin("wrong horse")
    monkeypatch.setattr("appkit.api.rate_limits.BaseService", broken)
    assert await signin("wrong horse") == 429
    assert "Could not emit RateLimited for signin." in caplog.text


async def test_many_failures_in_the_app_emit_an_alarm_and_refuse_nothing(signin, events, monkeypatch):
    monkeypatch.setattr(auth, "FAILURES_BY_ALL", "6/5 minutes")
    for number in range(9):
        assert await signin("wrong horse", email=f"user{number}@example.com", peer=f"203.0.113.{number}") == 401
    assert await signin() == 200
    assert len([event for event in events if isinstance(event, SigninFailed)]) == 9
    alarms = [event for event in events if isinstance(event, GuessingSuspected)]
    assert alarms == [GuessingSuspected(failures=6, seconds=300)]
