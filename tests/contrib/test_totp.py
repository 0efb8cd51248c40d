"""The plugin totp, on both databases, with a clock that only tests move."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from sqlalchemy import func, select, text, update

from appkit.contrib import totp
from appkit.contrib.totp import codes
from appkit.contrib.totp.service import (
    InvalidFactorException,
    RecoveryCode,
    RecoveryCodesRenewed,
    RecoveryCodeUsed,
    SecondFactorFailed,
    Totp,
    TotpDisabled,
    TotpEnabled,
    TotpEnabledException,
    WrongCodeException,
)
from appkit.core.settings import LimitsSettings
from appkit.domain.events import UserSignedIn
from appkit.exceptions import (
    EmailNotVerifiedException,
    InvalidTokenException,
    ReauthenticationRequiredException,
    TooManyRequestsException,
    UnauthorizedException,
    UnprocessableException,
)
from appkit.kit import AppKit
from appkit.repository.auth import AuthSession
from appkit.testing.kits import rebuilt
from appkit.testing.plugin import PASSWORD

BEGIN = datetime(2026, 11, 26, 12, 0, 5, tzinfo=UTC)


@pytest.fixture
def kit(settings):
    with rebuilt(AppKit(plugins=[totp], discover=False), settings) as kit:
        yield kit


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock of codes. Calling the fixture advances the time."""
    passed = [0.0]
    monkeypatch.setattr(codes, "now", lambda: BEGIN + timedelta(seconds=passed[0]))

    def move(seconds: float = codes.STEP) -> None:
        passed[0] += seconds

    return move


@pytest.fixture
async def user(user, db):
    """A user with a verified e-mail address."""
    verified = await db.merge(user)
    verified.email_verified_at = datetime.now(UTC)
    await db.commit()
    return verified


def code_for(secret: str, *, steps: int = 0) -> str:
    return pyotp.TOTP(secret).at(codes.now() + timedelta(seconds=steps * codes.STEP))


@pytest.fixture
async def enabled(auth_client, clock):
    """The secret and recovery codes of a user who confirmed an app 30 seconds ago."""
    secret = (await auth_client.post("/api/auth/mfa/totp/setup")).json()["secret"]
    confirmed = await auth_client.post("/api/auth/mfa/totp/confirm", json={"code": code_for(secret)})
    assert confirmed.status_code == 200, confirmed.text
    clock()
    return secret, confirmed.json()["recovery_codes"]


@pytest.fixture
def begin(client, user):
    """Sign in with the password, and get a challenge."""

    async def begin(**more):
        response = await client.post("/api/auth/signin", json={"email": user.email, "password": PASSWORD, **more})
        assert response.status_code == 200, response.text
        return response

    return begin


@pytest.fixture
def verify(client):
    async def verify(challenge, code, browser=client):
        return await browser.post("/api/auth/mfa/verify", json={"challenge": challenge, "code": code})

    return verify


# Setting up


async def test_setup_gives_a_secret_that_apps_read(auth_client, user, settings):
    response = await auth_client.post("/api/auth/mfa/totp/setup")
    setup = response.json()
    url = urlsplit(setup["url"])
    assert (url.scheme, url.netloc) == ("otpauth", "totp")
    assert user.email in url.path.replace("%40", "@")
    assert parse_qs(url.query) == {"secret": [setup["secret"]], "issuer": [settings.app_name]}
    assert setup["qr"].startswith("data:image/svg+xml")
    assert response.headers["cache-control"] == "no-store"
    assert len(setup["secret"]) == 32


async def test_secret_is_encrypted_in_the_database(auth_client, db):
    secret = (await auth_client.post("/api/auth/mfa/totp/setup")).json()["secret"]
    kept = await db.scalar(text("SELECT secret FROM totp"))
    assert secret not in kept
    assert await db.scalar(select(Totp.secret)) == secret


async def test_setup_changes_nothing_before_it_is_confirmed(auth_client, begin, clock):
    await auth_client.post("/api/auth/mfa/totp/setup")
    assert "id" in (await begin()).json()
    assert (await auth_client.get("/api/auth/mfa")).json() == {"totp": False, "recovery_codes_left": 0}


async def test_setup_can_be_repeated_and_the_latest_secret_counts(auth_client, clock, assert_error):
    first = (await auth_client.post("/api/auth/mfa/totp/setup")).json()["secret"]
    second = (await auth_client.post("/api/auth/mfa/totp/setup")).json()["secret"]
    refused = await auth_client.post("/api/auth/mfa/totp/confirm", json={"code": code_for(first)})
    assert_error(refused, WrongCodeException)
    confirmed = await auth_client.post("/api/auth/mfa/totp/confirm", json={"code": code_for(second)})
    assert confirmed.status_code == 200


async def test_confirming_returns_ten_recovery_codes_and_stores_only_hashes(events, enabled, auth_client, db):
    _, recovery_codes = enabled
    assert len(set(recovery_codes)) == 10
    kept = set(await db.scalars(select(RecoveryCode.code_hash)))
    assert len(kept) == 10
    assert not kept.intersection(recovery_codes)
    assert (await auth_client.get("/api/auth/mfa")).json() == {"totp": True, "recovery_codes_left": 10}
    assert [type(event) for event in events].count(TotpEnabled) == 1


async def test_confirming_requires_a_current_code(auth_client, clock, assert_error):
    secret = (await auth_client.post("/api/auth/mfa/totp/setup")).json()["secret"]
    for steps in (-1, 1):
        response = await auth_client.post("/api/auth/mfa/totp/confirm", json={"code": code_for(secret, steps=steps)})
        assert_error(response, WrongCodeException)


async def test_second_setup_is_refused_while_an_app_is_confirmed(enabled, auth_client, assert_error, db):
    secret, _ = enabled
    assert_error(await auth_client.post("/api/auth/mfa/totp/setup"), TotpEnabledException)
    assert await db.scalar(select(Totp.secret)) == secret


async def test_setup_requires_a_verified_address_and_a_recent_password(auth_client, db, user, assert_error):
    await db.execute(update(AuthSession).values(authenticated_at=datetime.now(UTC) - timedelta(hours=1)))
    await db.commit()
    await auth_client.post("/api/auth/refresh")
    for path in ("totp/setup", "totp/confirm", "totp/disable", "recovery-codes"):
        response = await auth_client.post(f"/api/auth/mfa/{path}", json={"code": "123456"})
        assert_error(response, ReauthenticationRequiredException)
    await auth_client.post("/api/auth/reauth", json={"password": PASSWORD})
    (await db.get_one(type(user), user.id)).email_verified_at = None
    assert_error(await auth_client.post("/api/auth/mfa/totp/setup"), EmailNotVerifiedException)


async def test_mfa_routes_require_sign_in(client, assert_error):
    for method, path in (("GET", ""), ("POST", "/totp/setup"), ("POST", "/totp/disable"), ("POST", "/recovery-codes")):
        response = await client.request(method, f"/api/auth/mfa{path}", json={"code": "1"})
        assert_error(response, UnauthorizedException)


# Signing in


async def test_sign_in_requires_both_factors(enabled, begin, verify, client, db, user):
    secret, _ = enabled
    answer = await begin(remember=True)
    assert answer.json().keys() == {"mfa_required", "challenge", "factors"}
    assert answer.json()["factors"] == ["totp", "recovery_code"]
    response = await verify(answer.json()["challenge"], code_for(secret))
    assert response.json()["email"] == user.email
    assert (await client.get("/api/auth/me")).status_code == 200
    session = await db.scalar(select(AuthSession).order_by(AuthSession.created_at.desc()).limit(1))
    assert set(session.amr) == {"pwd", "otp", "mfa"}
    assert session.remember


async def test_pending_sign_in_creates_no_session(enabled, begin, client, db, events, assert_error):
    before = await db.scalar(select(func.count()).select_from(AuthSession))
    events.clear()
    answer = await begin()
    for cookie in answer.headers.get_list("set-cookie"):
        assert "Max-Age=0" in cookie
    assert_error(await client.get("/api/auth/me"), UnauthorizedException)
    assert await db.scalar(select(func.count()).select_from(AuthSession)) == before
    assert UserSignedIn not in map(type, events)


async def test_code_is_single_use(enabled, begin, verify, assert_error):
    secret, _ = enabled
    code = code_for(secret)
    assert (await verify((await begin()).json()["challenge"], code)).status_code == 200
    assert_error(await verify((await begin()).json()["challenge"], code), InvalidFactorException)


async def test_code_that_confirmed_the_app_is_used_up(auth_client, begin, verify, clock, assert_error):
    secret = (await auth_client.post("/api/auth/mfa/totp/setup")).json()["secret"]
    await auth_client.post("/api/auth/mfa/totp/confirm", json={"code": code_for(secret)})
    assert_error(await verify((await begin()).json()["challenge"], code_for(secret)), InvalidFactorException)


async def test_expired_and_future_codes_are_refused(enabled, begin, verify, assert_error):
    secret, _ = enabled
    challenge = (await begin()).json()["challenge"]
    for steps in (-1, 1):
        assert_error(await verify(challenge, code_for(secret, steps=steps)), InvalidFactorException)
    assert (await verify(challenge, code_for(secret))).status_code == 200


async def test_challenge_is_single_use(enabled, begin, verify, clock, assert_error):
    secret, _ = enabled
    challenge = (await begin()).json()["challenge"]
    assert (await verify(challenge, code_for(secret))).status_code == 200
    clock()
    assert_error(await verify(challenge, code_for(secret)), InvalidTokenException)


async def test_sign_out_voids_the_challenge(enabled, begin, verify, client, assert_error):
    secret, _ = enabled
    given_up, other = [(await begin()).json()["challenge"] for _ in range(2)]
    assert (await client.post("/api/auth/signout", json={"challenge": given_up})).status_code == 204
    assert_error(await verify(given_up, code_for(secret)), InvalidTokenException)
    assert (await verify(other, code_for(secret))).status_code == 200


@pytest.mark.both_databases
async def test_parallel_right_codes_create_one_session(enabled, begin, verify, db):
    secret, _ = enabled
    challenge = (await begin()).json()["challenge"]
    await db.execute(update(AuthSession).values(revoked_at=datetime.now(UTC)))
    await db.commit()
    statuses = Counter(
        response.status_code
        for response in await asyncio.gather(*(verify(challenge, code_for(secret)) for _ in range(2)))
    )
    assert statuses[200] == 1
    live = select(func.count()).select_from(AuthSession).where(AuthSession.revoked_at.is_(None))
    assert await db.scalar(live) == 1


@pytest.mark.both_databases
async def test_at_most_five_parallel_wrong_codes_are_checked(enabled, begin, verify, monkeypatch, events):
    looked: list[str] = []
    accepted_step = codes.accepted_step

    def look(secret, code, at, **options):
        looked.append(code)
        return accepted_step(secret, code, at, **options)

    monkeypatch.setattr(codes, "accepted_step", look)
    challenge = (await begin()).json()["challenge"]
    answers = await asyncio.gather(*(verify(challenge, f"{number:06}") for number in range(12)))
    assert Counter(answer.status_code for answer in answers) == {401: 5, 400: 7}
    assert len(looked) == 5
    assert [type(event) for event in events].count(SecondFactorFailed) == 5


async def test_guesses_with_new_challenges_are_limited(enabled, begin, verify, app, settings, kit, assert_error):
    secret, _ = enabled
    kit.limiter._settings = settings.model_copy(update={"limits": LimitsSettings(enabled=True)})
    for _ in range(2):
        challenge = (await begin()).json()["challenge"]
        assert [(await verify(challenge, "000000")).status_code for _ in range(5)] == [401] * 5
        kit.limiter._storage._calls = {
            key: calls for key, calls in kit.limiter._storage._calls.items() if calls.maxlen == 10
        }
    refused = await verify((await begin()).json()["challenge"], code_for(secret))
    assert_error(refused, TooManyRequestsException)
    assert int(refused.headers["retry-after"]) > 800


async def test_sign_in_with_two_factors_needs_no_code(enabled, kit, user):
    async with kit.session() as db:
        assert await totp.before_signin(user, ["pop", "mfa"], db) is None
        assert await totp.before_signin(user, ["pwd"], db) is not None


@pytest.mark.parametrize("code", ["", "\ud800", "1" * 65, 123456, None, ["1"]])
async def test_malformed_code_is_refused(code, enabled, begin, client, assert_error):
    body = {"challenge": (await begin()).json()["challenge"], "code": code}
    content = json.dumps(body).encode()
    response = await client.post("/api/auth/mfa/verify", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in {401, 422}


async def test_body_with_extra_fields_is_refused(enabled, client, user, assert_error):
    body = {"challenge": "x", "code": "123456", "user_id": str(user.id)}
    assert_error(await client.post("/api/auth/mfa/verify", json=body), UnprocessableException)


async def test_guesses_of_a_signed_in_user_are_limited(enabled, auth_client, settings, kit, assert_error):
    secret, _ = enabled
    kit.limiter._settings = settings.model_copy(update={"limits": LimitsSettings(enabled=True)})
    for path in ("totp/disable", "recovery-codes"):
        for _ in range(5):
            guess = await auth_client.post(f"/api/auth/mfa/{path}", json={"code": "000000"})
            assert_error(guess, WrongCodeException)
    refused = await auth_client.post("/api/auth/mfa/totp/disable", json={"code": code_for(secret)})
    assert_error(refused, TooManyRequestsException)


# Recovery


async def test_recovery_code_is_single_use_and_ignores_formatting(
    enabled, begin, verify, auth_client, events, assert_error
):
    _, (code, *_) = enabled
    typed = code.upper().replace("-", " ")
    assert (await verify((await begin()).json()["challenge"], typed)).status_code == 200
    assert_error(await verify((await begin()).json()["challenge"], code), InvalidFactorException)
    assert [event.left for event in events if isinstance(event, RecoveryCodeUsed)] == [9]
    assert (await auth_client.get("/api/auth/mfa")).json()["recovery_codes_left"] == 9


@pytest.mark.both_databases
async def test_parallel_uses_of_a_recovery_code_create_one_session(enabled, begin, verify):
    _, (code, *_) = enabled
    challenge = (await begin()).json()["challenge"]
    answers = await asyncio.gather(*(verify(challenge, code) for _ in range(4)))
    assert Counter(answer.status_code for answer in answers)[200] == 1


async def test_new_recovery_codes_void_the_old_ones(enabled, begin, verify, auth_client, events, assert_error):
    secret, old = enabled
    response = await auth_client.post("/api/auth/mfa/recovery-codes", json={"code": code_for(secret)})
    new = response.json()["recovery_codes"]
    assert not set(new).intersection(old)
    assert_error(await verify((await begin()).json()["challenge"], old[0]), InvalidFactorException)
    assert (await verify((await begin()).json()["challenge"], new[0])).status_code == 200
    assert RecoveryCodesRenewed in map(type, events)


async def test_recovery_code_of_another_user_is_refused(enabled, begin, verify, make_user, db, assert_error):
    other = await make_user()
    db.add(RecoveryCode(user_id=other.id, code_hash=codes.recovery_hash("theirs")))
    await db.commit()
    assert_error(await verify((await begin()).json()["challenge"], "theirs"), InvalidFactorException)


# Disabling


async def test_disabling_requires_a_code_and_deletes_everything(enabled, auth_client, begin, db, events, assert_error):
    secret, _ = enabled
    refused = await auth_client.post("/api/auth/mfa/totp/disable", json={"code": "000000"})
    assert_error(refused, WrongCodeException)
    response = await auth_client.post("/api/auth/mfa/totp/disable", json={"code": code_for(secret)})
    assert response.status_code == 204
    assert "id" in (await begin()).json()
    for table in (Totp, RecoveryCode):
        assert await db.scalar(select(func.count()).select_from(table)) == 0
    assert TotpDisabled in map(type, events)


async def test_password_reset_keeps_the_second_factor(enabled, begin, kit, user):
    async with kit.session() as db:
        (await db.get_one(type(user), user.id)).security_version += 1
    assert (await begin()).json()["mfa_required"]


# Codes


def test_tolerance_accepts_earlier_codes_and_no_later_ones():
    secret, at = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", BEGIN
    shown = {steps: pyotp.TOTP(secret).at(at + timedelta(seconds=30 * steps)) for steps in range(-3, 3)}
    accepted = [steps for steps, code in shown.items() if codes.accepted_step(secret, code, at, tolerance=2)]
    assert accepted == [-2, -1, 0]


def test_code_matches_rfc_6238():
    """RFC 6238, Appendix B, for SHA-1. Apps show the last six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for seconds, code in ((59, "287082"), (1111111109, "081804"), (2000000000, "279037")):
        at = datetime.fromtimestamp(seconds, UTC)
        assert codes.accepted_step(secret, code, at, tolerance=0) == seconds // 30
