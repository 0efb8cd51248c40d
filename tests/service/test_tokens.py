"""Tokens: a changed, foreign, misused or expired token is refused."""

import hmac
import json
import socket
from base64 import urlsafe_b64encode
from datetime import timedelta
from uuid import uuid4

import jwt
import pytest

from appkit.core.keys import KeyRing
from appkit.core.settings import Settings
from appkit.exceptions import AppKitError, TokenExpiredException, UnauthorizedException
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.repository.plain_user import User
from appkit.service.tokens import Tokens

SECRETS = ("new " * 16, "old " * 16)


def make_settings(*secrets: str, **fields) -> Settings:
    return Settings(environment="test", auth={"secret_keys": secrets or SECRETS}, **fields)


def make_session(user: User) -> AuthSession:
    now = utcnow()
    return AuthSession(
        id=uuid4(),
        user_id=user.id,
        security_version=1,
        refresh_seq=3,
        authenticated_at=now,
        amr=["pwd"],
        idle_expires_at=now + timedelta(hours=1),
        expires_at=now + timedelta(hours=2),
        remember=True,
    )


@pytest.fixture
def user() -> User:
    return User(id=uuid4(), email="ada@example.com")


@pytest.fixture
def session(user) -> AuthSession:
    return make_session(user)


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(make_settings())


@pytest.fixture
def forge(tokens, user, session):
    """Makes a token with appkit's key, headers and claims, except for the test's changes. None removes a claim."""
    key = KeyRing([secret.encode() for secret in SECRETS]).current
    claims = jwt.decode(tokens.issue(user, session, {}).access, options={"verify_signature": False})

    def forge(headers=None, *, signing_key=key.access, digest="sha256", **changes):
        header = {"alg": "HS256", "typ": "at+jwt", "kid": key.id.hex(), **(headers or {})}
        payload = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        signed = b".".join(b64(json.dumps(part).encode()) for part in (header, payload))
        return b".".join((signed, b64(hmac.digest(signing_key, signed, digest)))).decode()

    return forge


def b64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def test_issued_token_is_read_by_read_access(tokens, user, session):
    pair = tokens.issue(user, session, {"plan": "pro"})
    principal = tokens.read_access(pair.access)
    assert (principal.user_id, principal.session_id, principal.security_version) == (user.id, session.id, 1)
    assert (principal.methods, principal.claims["plan"]) == (["pwd"], "pro")
    assert principal.expires_at == pair.expires_at
    assert utcnow() < pair.expires_at <= utcnow() + timedelta(minutes=5)
    assert pair.max_age in range(3590, 3601)


def test_issued_token_contains_no_personal_data_or_secrets(tokens, user, session):
    pair = tokens.issue(user, session, {})
    claims = jwt.decode(pair.access, options={"verify_signature": False})
    assert set(claims) == {"iss", "aud", "sub", "sid", "jti", "iat", "exp", "auth_time", "amr", "sv"}
    assert pair.access not in repr(pair)
    assert pair.refresh not in repr(pair)


def test_issue_refuses_plugins_claims_with_reserved_names(tokens, user, session):
    with pytest.raises(AppKitError, match=r"sub: appkit sets it"):
        tokens.issue(user, session, {"sub": "somebody else"})


def test_forge_makes_a_token_that_is_accepted_unchanged(tokens, forge, user):
    """So the tests below fail only because of the part that they change."""
    assert tokens.read_access(forge()).user_id == user.id


def test_read_access_refuses_tokens_longer_than_a_cookie(tokens, forge, user):
    assert tokens.read_access(forge(note="x" * 2000)).user_id == user.id
    with pytest.raises(UnauthorizedException):
        tokens.read_access(forge(note="x" * 4000))


@pytest.mark.parametrize("algorithm", ["none", "NONE", ["HS256"], None, "HS384", "RS256", "EdDSA"])
def test_read_access_refuses_another_algorithm(tokens, forge, algorithm):
    signed = forge({"alg": algorithm})
    for token in (signed, signed.rpartition(".")[0] + ".", forge({"alg": algorithm}, digest="sha384")):
        with pytest.raises(UnauthorizedException):
            tokens.read_access(token)


@pytest.mark.parametrize("key", [SECRETS[0].encode(), b"appkit", b"-----BEGIN PUBLIC KEY-----", b'{"kty": "oct"}', b""])
def test_read_access_refuses_a_signature_by_anything_but_its_own_key(tokens, forge, key):
    """CVE-2022-29217: no other text of the app is a key, and not even the secret itself."""
    with pytest.raises(UnauthorizedException):
        tokens.read_access(forge(signing_key=key))


@pytest.mark.parametrize(
    "headers",
    [
        {"crit": ["x"], "x": 1},  # CVE-2026-32597
        {"crit": ["b64"], "b64": False},  # CVE-2026-48525
        {"kid": "ffffffff"},
        {"kid": "../../etc/passwd"},
        {"kid": ""},
        {"kid": 5},
        {"kid": None},
        {"typ": "JWT"},
        {"typ": None},
    ],
)
def test_read_access_refuses_a_header_that_is_not_ours(tokens, forge, headers):
    with pytest.raises(UnauthorizedException):
        tokens.read_access(forge(headers))


def test_read_access_ignores_keys_in_the_token(tokens, forge, monkeypatch):
    """CVE-2026-27962: a key in the header is ignored, and so is the URL of a key."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("went to the network"))
    own = b"a key of the attacker's, long enough"
    headers = {"jwk": {"kty": "oct", "k": urlsafe_b64encode(own).decode()}, "jku": "https://evil.example/keys"}
    with pytest.raises(UnauthorizedException):
        tokens.read_access(forge(headers, signing_key=own))


def test_read_access_distinguishes_expired_from_invalid_tokens(tokens, forge):
    now = int(utcnow().timestamp())
    assert tokens.read_access(forge(exp=now - 5))  # Within the leeway.
    with pytest.raises(TokenExpiredException):
        tokens.read_access(forge(exp=now - 15))
    assert tokens.read_access(forge(exp=now - 15), expired=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": "soon"},
        {"exp": None},
        {"iat": 99999999999},
        {"iat": None},
        {"aud": None},
        {"aud": ["appkit"]},
        {"aud": "other"},
        {"iss": "appki"},
        {"iss": "appkit.example"},
        {"iss": None},
        {"sid": 5},
        {"sid": "not an id"},
        {"sub": None},
        {"sv": "1"},
        {"sv": 1.5},
        {"sv": None},
        {"amr": "pwd"},
        {"auth_time": None},
    ],
)
def test_read_access_refuses_changed_claims(tokens, forge, changes):
    with pytest.raises(UnauthorizedException) as refused:
        tokens.read_access(forge(**changes))
    assert type(refused.value) is UnauthorizedException


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "\ud800",
        "é.é.é",
        "x" * 1_000_000,
        urlsafe_b64encode(b"[" * 3000).decode() + ".e30.e30",
        urlsafe_b64encode(b"[" * 100_000).decode() + ".e30.e30",
        "WyJub3QiLCAiYW4iLCAib2JqZWN0Il0.e30.e30",
    ],
)
def test_read_access_refuses_garbage(tokens, token):
    with pytest.raises(UnauthorizedException):
        tokens.read_access(token)
    assert tokens.session_ids(token) == set()


def test_tokens_of_the_previous_key_are_valid_until_it_is_removed(user, session):
    previous = Tokens(make_settings(SECRETS[1])).issue(user, session, {})
    both, newest = Tokens(make_settings()), Tokens(make_settings(SECRETS[0]))
    assert both.read_access(previous.access).user_id == user.id
    assert both.read_refresh(previous.refresh) == (session.id, 3)

    # A new token has the id of the new key.
    assert newest.read_access(both.issue(user, session, {}).access).user_id == user.id
    for read, token in ((newest.read_access, previous.access), (newest.read_refresh, previous.refresh)):
        with pytest.raises(UnauthorizedException):
            read(token)


def test_tokens_of_another_app_with_the_same_secret_are_refused(user, session):
    other = Tokens(make_settings(app_name="another"))
    with pytest.raises(UnauthorizedException):
        Tokens(make_settings()).read_access(other.issue(user, session, {}).access)


def test_tokens_of_one_kind_are_refused_as_the_other(tokens, user, session):
    pair = tokens.issue(user, session, {})
    with pytest.raises(UnauthorizedException):
        tokens.read_access(pair.refresh)
    with pytest.raises(UnauthorizedException):
        tokens.read_refresh(pair.access)


def test_refresh_token_is_the_same_for_the_same_row_and_fits_a_cookie(tokens, user, session):
    first, again = tokens.issue(user, session, {}), tokens.issue(user, session, {})
    assert first.refresh == again.refresh
    assert first.access != again.access
    session.refresh_seq += 1
    assert tokens.issue(user, session, {}).refresh != first.refresh
    assert len(first.refresh) == 75


@pytest.mark.parametrize("position", [0, 10, 28, 40, 74])
def test_read_refresh_refuses_a_token_with_any_character_changed(tokens, user, session, position):
    token = tokens.issue(user, session, {}).refresh
    following = chr(ord(token[position]) + 1)  # The lowest bits of the last character have no meaning.
    for other in (following, "!", token[position] * 2, ""):
        with pytest.raises(UnauthorizedException):
            tokens.read_refresh(token[:position] + other + token[position + 1 :])


def test_read_refresh_refuses_another_spelling_of_a_good_token(tokens, user, session):
    token = tokens.issue(user, session, {}).refresh
    for spelling in (token + "=", token + "==", "!" + token, f"{token[:9]}\n{token[9:]}", f" {token}"):
        with pytest.raises(UnauthorizedException):
            tokens.read_refresh(spelling)


@pytest.mark.parametrize("token", ["", "A", "A" * 75, "A" * 400, "é", "\ud800", "====", "A" * 74])
def test_read_refresh_refuses_garbage(tokens, token):
    with pytest.raises(UnauthorizedException):
        tokens.read_refresh(token)


def test_session_ids_are_those_of_either_kind_and_of_expired_tokens(tokens, forge, user, session):
    other = make_session(user)
    refresh = tokens.issue(user, other, {}).refresh
    assert tokens.session_ids(forge(exp=1), refresh, None, "garbage") == {session.id, other.id}
