"""Tokens: issues and verifies access tokens (JWTs), refresh tokens and device cookies.

No token is stored. An access token is a JWT of the type `at+jwt` (RFC 9068). A refresh token is derived from the row of
its sign-in session. The same row gives the same token, so that a lost response can be repeated. A leaked database
reveals no token, because the signing key isn't in the database.
"""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from secrets import token_bytes
from typing import Any
from uuid import UUID, uuid4

import jwt

from appkit.core.keys import KeyRing, sign, verify
from appkit.core.settings import Settings
from appkit.exceptions import AppKitError, TokenExpiredException, UnauthorizedException
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.repository.user import BaseUser
from appkit.service.principals import SessionPrincipal, TokenPair

ALGORITHM = "HS256"
TYPE = "at+jwt"
LEEWAY = 10  # Seconds. The clocks of two machines differ, and PyJWT refuses an `iat` in the future.
MAX_SIZE = 4096  # Browsers store no larger cookie.

_DEVICE = struct.Struct(">4s16sI8s")  # Key id, user id, security version, random device id.
_REFRESH = struct.Struct(">4s16sI")  # Key id, session id, number of refreshes.


class Tokens:
    """Issues and verifies an app's tokens."""

    def __init__(self, settings: Settings) -> None:
        self._keys = KeyRing(settings.signing_keys)
        self._name = settings.app_name
        self._ttl = timedelta(seconds=settings.auth.access_ttl)

    def issue(self, user: BaseUser, session: AuthSession, claims: Mapping[str, Any]) -> TokenPair:
        """Issue the tokens of a sign-in session, with these claims of plugins.

        Raises:
            AppKitError: When a claim of a plugin has the name of one of appkit's claims.
        """
        now = utcnow().replace(microsecond=0)
        expires_at = now + self._ttl
        own = {
            "iss": self._name,
            "aud": self._name,
            "sub": str(user.id),
            "sid": str(session.id),
            "jti": uuid4().hex,
            "iat": now,
            "exp": expires_at,
            "auth_time": int(session.authenticated_at.timestamp()),
            "amr": session.amr,
            "sv": session.security_version,
        }
        if taken := own.keys() & claims.keys():
            raise AppKitError(f"A plugin's token_claims() can't set {', '.join(sorted(taken))}: appkit sets it.")
        key = self._keys.current
        session_end = min(session.idle_expires_at, session.expires_at)
        return TokenPair(
            access=jwt.encode({**claims, **own}, key.access, ALGORITHM, {"typ": TYPE, "kid": key.id.hex()}),
            refresh=_encode(sign(key.refresh, _REFRESH.pack(key.id, session.id.bytes, session.refresh_seq))),
            expires_at=expires_at,
            max_age=int((session_end - now).total_seconds()) if session.remember else None,
        )

    def read_access(self, token: str, *, expired: bool = False) -> SessionPrincipal:
        """The principal of an access token. With `expired`, an expired token is accepted, as for signing out.

        Raises:
            TokenExpiredException: When the token is expired, but otherwise valid.
            UnauthorizedException: When the token is not valid.
        """
        try:
            return SessionPrincipal.model_validate(self._claims(token, verify_exp=not expired))
        except jwt.ExpiredSignatureError:
            raise TokenExpiredException from None
        except (jwt.PyJWTError, ValueError, RecursionError):  # Pydantic and lone surrogates raise ValueError.
            raise UnauthorizedException from None

    def _claims(self, token: str, *, verify_exp: bool) -> dict[str, Any]:
        if len(token) > MAX_SIZE:
            raise ValueError("too long")
        header = jwt.get_unverified_header(token)
        key = self._keys.get(bytes.fromhex(str(header.get("kid"))))
        if key is None or header.get("typ") != TYPE:
            raise ValueError("not one of ours")
        return jwt.decode(
            token,
            key.access,
            algorithms=[ALGORITHM],
            audience=self._name,
            issuer=self._name,
            leeway=LEEWAY,
            options={
                "require": ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "auth_time", "amr", "sv"],
                "strict_aud": True,
                "verify_exp": verify_exp,
                "enforce_minimum_key_length": True,
            },
        )

    def session_ids(self, *tokens: str | None) -> set[UUID]:
        """The ids of the tokens' sign-in sessions, even if access tokens have expired. Invalid tokens are ignored."""
        found = set()
        for token in filter(None, tokens):
            with suppress(UnauthorizedException):
                found.add(self.read_access(token, expired=True).session_id)
            with suppress(UnauthorizedException):
                found.add(self.read_refresh(token)[0])
        return found

    def issue_device(self, user_id: UUID, security_version: int) -> str:
        """Issue the device cookie of a browser that has signed in to this account (OWASP: device cookies)."""
        key = self._keys.current
        return _encode(sign(key.device, _DEVICE.pack(key.id, user_id.bytes, security_version, token_bytes(8))))

    def read_device(self, token: str | None) -> tuple[UUID, int, str] | None:
        """The user id, the security version and the device id in a device cookie; None for an invalid cookie."""
        try:
            signed = urlsafe_b64decode((token or "").encode("ascii") + b"==")
            key_id, user_id, security_version, number = _DEVICE.unpack(signed[:-32])
        except (ValueError, struct.error):
            return None
        key = self._keys.get(key_id)
        valid = key is not None and verify(key.device, signed)
        return (UUID(bytes=user_id), security_version, number.hex()) if valid else None

    def read_refresh(self, token: str) -> tuple[UUID, int]:
        """The sign-in session's id in a refresh token, and the number of refreshes before this token.

        Raises:
            UnauthorizedException: When the token is not valid.
        """
        try:
            signed = urlsafe_b64decode(token.encode("ascii") + b"==")
            key_id, session_id, seq = _REFRESH.unpack(signed[:-32])
        except (ValueError, struct.error):
            raise UnauthorizedException from None
        key = self._keys.get(key_id)
        # A token must have only one spelling, but decoding ignores characters that aren't in base64.
        if key is None or not verify(key.refresh, signed) or token != _encode(signed):
            raise UnauthorizedException
        return UUID(bytes=session_id), seq


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
