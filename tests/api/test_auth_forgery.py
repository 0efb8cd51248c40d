"""What an attacker forges opens nothing and changes nothing in an app that has a database; on both kinds.

What is wrong with each token, and that this alone is why it is refused: tests/service/test_tokens.py.
"""

import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import pytest
from pydantic import SecretStr
from sqlalchemy import select

from appkit.exceptions import (
    CrossSiteRequestException,
    SessionRevokedException,
    TokenExpiredException,
    UnauthorizedException,
)
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.service.hashing import Security
from appkit.service.tokens import Tokens

OWN_KEY = b"a key of the attacker's, long enough"
FORGED: dict[str, dict[str, Any]] = {
    "no algorithm": {"header": {"alg": "none"}, "signature": b""},
    "a list of algorithms": {"header": {"alg": ["HS256"]}},
    "null for an algorithm": {"header": {"alg": None}},
    "a public key for a secret": {"key": b"-----BEGIN PUBLIC KEY-----"},
    "an unknown extension": {"header": {"crit": ["x"], "x": 1}},
    "a body that isn't encoded": {"header": {"crit": ["b64"], "b64": False}},
    "a number for a key": {"header": {"kid": 5}},
    "an unknown key": {"header": {"kid": "ffffffff"}},
    "a path for a key": {"header": {"kid": "../../etc/passwd"}},
    "a key that it brings along": {"header": {"jwk": {"kty": "oct"}, "jku": "https://evil.example"}, "key": OWN_KEY},
    "another type": {"header": {"typ": "JWT"}},
    "no end": {"claims": {"exp": None}},
    "an end that is no number": {"claims": {"exp": float("nan")}},
    "an end in words": {"claims": {"exp": "soon"}},
    "a beginning far ahead": {"claims": {"iat": 99999999999}},
    "nobody whom it is for": {"claims": {"aud": None}},
    "several whom it is for": {"claims": {"aud": ["appkit"]}},
    "somebody else whom it is for": {"claims": {"aud": "other"}},
    "the beginning of our name": {"claims": {"iss": "appki"}},
    "a number for a session": {"claims": {"sid": 5}},
    "nobody who asks": {"claims": {"sub": None}},
}
CROSS_SITE = {
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "another host of the site": {"Sec-Fetch-Site": "same-site", "Origin": "https://other.testserver"},
    "an evil origin": {"Origin": "https://evil.example"},
    "no origin": {"Origin": "null"},
    "our origin's name in another's": {"Origin": "https://testserver.evil.example"},
    "another port": {"Origin": "https://testserver:8443"},
    "another scheme": {"Origin": "http://testserver"},
    "its own host": {"Origin": "https://evil.example", "Host": "evil.example"},
    "a host that a proxy might have sent": {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
}


@pytest.fixture
def settings(settings):
    frontend = settings.frontend.model_copy(update={"url": "https://testserver"})
    return settings.model_copy(update={"frontend": frontend})


@pytest.fixture
def forge(kit, auth_client):
    """The browser's own token, but for what is wrong with it."""
    key = Security.of(kit.context).tokens._keys.current
    token = auth_client.cookies["appkit_at"]
    ours = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})

    def forge(*, header=None, claims=None, key=key.access, signature=None):
        parts = (ours[0] | (header or {}), ours[1] | (claims or {}))
        written = [{name: value for name, value in part.items() if value is not None} for part in parts]
        signed = b".".join(encode(json.dumps(part).encode()) for part in written)
        signature = encode(hmac.digest(key, signed, "sha256")) if signature is None else signature
        return b".".join((signed, signature)).decode()

    return forge


def encode(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


@pytest.fixture
def me(client):
    async def me(token):
        client.cookies.set("appkit_at", token)
        return await client.get("/api/auth/me")

    return me


async def test_forged_tokens_are_refused(auth_client, forge, me, assert_error):
    assert (await me(forge())).status_code == 200
    for what, changes in FORGED.items():
        answer = await me(forge(**changes))
        assert answer.json()["internal_code"] == 40100, what
        assert_error(answer, UnauthorizedException)
    assert (await auth_client.get("/api/auth/me")).status_code == 200


async def test_expired_token_is_accepted_within_the_leeway_only(forge, me, assert_error):
    now = int(utcnow().timestamp())
    assert (await me(forge(claims={"exp": now - 2}))).status_code == 200
    assert_error(await me(forge(claims={"exp": now - 15})), TokenExpiredException)


async def test_token_does_not_work_for_another_users_session(forge, me, make_user, assert_error):
    """A good signature is not enough: the session must be the subject's."""
    other = await make_user()
    assert_error(await me(forge(claims={"sub": str(other.id)})), SessionRevokedException)
    assert_error(await me(forge(claims={"sid": str(other.id)})), SessionRevokedException)


async def test_tokens_of_the_previous_key_work_until_it_is_removed(auth_client, kit, assert_error):
    def use(*secrets: str) -> None:
        auth = kit.settings.auth.model_copy(update={"secret_keys": tuple(map(SecretStr, secrets))})
        Security.of(kit.context).tokens = Tokens(kit.settings.model_copy(update={"auth": auth}))

    (old,), new = (key.get_secret_value() for key in kit.settings.auth.secret_keys), "new " * 16
    use(new, old)
    before = jwt.get_unverified_header(auth_client.cookies["appkit_at"])["kid"]
    assert (await auth_client.get("/api/auth/me")).status_code == 200
    kept = dict(auth_client.cookies)
    assert (await auth_client.post("/api/auth/refresh")).status_code == 200
    assert jwt.get_unverified_header(auth_client.cookies["appkit_at"])["kid"] != before
    use(new)
    assert (await auth_client.get("/api/auth/me")).status_code == 200
    auth_client.cookies.clear()
    auth_client.cookies.update(kept)
    assert_error(await auth_client.get("/api/auth/me"), UnauthorizedException)


async def test_requests_of_other_sites_are_refused(auth_client, kit, user, assert_error):
    """Neither with the cookies of somebody signed in, nor by signing them in to another account."""
    del auth_client.headers["Sec-Fetch-Site"]
    for headers in CROSS_SITE.values():
        assert_error(await auth_client.post("/api/auth/signout", headers=headers), CrossSiteRequestException)
    auth_client.cookies.clear()
    body = {"email": user.email, "password": "whatever it is"}
    for headers in CROSS_SITE.values():
        assert_error(await auth_client.post("/api/auth/signin", json=body, headers=headers), CrossSiteRequestException)
    async with kit.session() as db:
        assert (await db.scalars(select(AuthSession.revoked_at))).all() == [None]


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "https://testserver"}, {}]
)
async def test_requests_of_our_pages_and_of_programs_are_accepted(auth_client, kit, headers):
    del auth_client.headers["Sec-Fetch-Site"]
    assert (await auth_client.post("/api/auth/signout", headers=headers)).status_code == 204
    async with kit.session() as db:
        assert (await db.scalars(select(AuthSession.revoked_reason))).all() == ["signed_out"]
