"""Signing in, once it is known who it is: what plugins ask for besides, and the session that begins then."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import update

from appkit.domain.events import SigninChallenged, UserSignedIn
from appkit.exceptions import InvalidCredentialsException, InvalidTokenException
from appkit.repository.base import utcnow
from appkit.repository.context import app_context
from appkit.repository.user import BaseUser
from appkit.service.hookspecs import Challenge
from appkit.service.links import LinkService
from appkit.service.principals import TokenPair
from appkit.service.sessions import FRESH, QUIET, UNKNOWN_DEVICE, Device, Kind, SessionKeeper

CHALLENGE: Final = "signin_challenge"
CHALLENGE_TTL: Final = 600  # Seconds: OWASP ASVS 6.5.5 has ten minutes for a code that was sent.
CHALLENGE_TRIES: Final = 5
TRIES_BY_USER: Final = "10/15 minutes"


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """A person who just signed in, and what they hold from now on."""

    user: BaseUser
    kind: Kind
    tokens: TokenPair


@dataclass(frozen=True, kw_only=True)
class PendingSignIn:
    """A person who has to prove themselves in another way before they are signed in.

    Args:
        challenge: A token that works once, for `complete`.
        factors: What they may prove themselves with.
    """

    challenge: str = field(repr=False)
    factors: list[str]


class SigninKeeper(SessionKeeper):
    """Lets people in who proved who they are."""

    async def admit(
        self,
        user: BaseUser,
        *,
        methods: Sequence[str],
        remember: bool = False,
        kind: Kind = "browser",
        device: Device = UNKNOWN_DEVICE,
        replaces: Collection[str | None] = (),
    ) -> SignIn | PendingSignIn:
        """Begin a session for somebody who proved who they are, unless a plugin asks them for more.

        Args:
            user: Who, as they were when they proved it.
            methods: How they did (RFC 8176); with `mfa`, in more than one way.
            remember: Whether the session outlives the browser.
            kind: Whether a browser keeps the tokens, or a program.
            device: Where the person is.
            replaces: Tokens that the device held until now; their sessions end (OWASP ASVS 7.2.4).

        Raises:
            InvalidCredentialsException: When the account is disabled, or has had its sessions ended since.
        """
        challenge: Challenge | None = await self.plugins.first(
            "before_signin", user=user, methods=methods, device=device, db=self.db
        )
        if challenge is None:
            return await self._enter(user, methods, remember=remember, kind=kind, device=device, replaces=replaces)
        await self._drop(replaces)
        data = {"methods": list(methods), "remember": remember, "kind": kind}
        token = await LinkService(self.db).make(user, CHALLENGE, ttl=CHALLENGE_TTL, data=data, others=True)
        self.emit(SigninChallenged(user_id=user.id, ip=device.ip))
        return PendingSignIn(challenge=token, factors=list(challenge.factors))

    async def challenged(self, challenge: str) -> BaseUser:
        """Who has to prove themselves, before it is looked whether they do. Counts as a try; five are all they have.

        Commits, so that a try still counts when it fails.

        Raises:
            InvalidTokenException: When the challenge was met, is too old, or was tried too often.
            TooManyRequestsException: When the account was: ten times in a quarter of an hour without success.
        """
        try:
            user = await LinkService(self.db).attempt(challenge, CHALLENGE, limit=CHALLENGE_TRIES)
        except InvalidTokenException:
            raise InvalidTokenException("This took too long, or too many tries. Sign in again.") from None
        # Who knows the password gets as many challenges as they like.
        await app_context(self.db).limiter.hit(TRIES_BY_USER, "challenge", user.id)
        return user

    async def complete(
        self,
        challenge: str,
        *,
        methods: Sequence[str],
        device: Device = UNKNOWN_DEVICE,
        replaces: Collection[str | None] = (),
    ) -> SignIn:
        """Begin the session of somebody who met a challenge. Plugins aren't asked again.

        Args:
            challenge: The token; it is used up.
            methods: How they met it, as in `["otp"]`; with what they did before, this counts as `mfa`.
            device: Where the person is.
            replaces: Tokens that the device held until now; their sessions end.

        Raises:
            InvalidTokenException: When the challenge was met or is too old.
            InvalidCredentialsException: When the account was disabled meanwhile.
        """
        links = LinkService(self.db)
        user, data = await links.owner(challenge, CHALLENGE), (await links.consume(challenge, CHALLENGE)).data
        await app_context(self.db).limiter.clear(TRIES_BY_USER, "challenge", user.id)
        methods = list(dict.fromkeys([*data["methods"], *methods, "mfa"]))
        return await self._enter(
            user, methods, remember=data["remember"], kind=data["kind"], device=device, replaces=replaces
        )

    async def give_up(self, challenge: str) -> None:
        """Make a challenge worthless; one that is already is no mistake."""
        with suppress(InvalidTokenException):
            await LinkService(self.db).consume(challenge, CHALLENGE)

    async def _enter(self, user: BaseUser, methods: Sequence[str], *, kind: Kind, **options: Any) -> SignIn:
        user = await self._confirm(user)
        session = await self._begin(user, methods=methods, kind=kind, **options)
        self.emit(UserSignedIn(user_id=user.id, session_id=session.id))
        return SignIn(user=user, kind=kind, tokens=self._issue(user, session))

    async def _confirm(self, seen: BaseUser) -> BaseUser:
        """Take the account as it was when it was looked up: not disabled since, and with the same password."""
        user = self._users
        confirmed: BaseUser | None = await self.db.scalar(
            update(user)
            .where(user.id == seen.id, user.security_version == seen.security_version, self._is_open)
            .values(last_signin_at=utcnow(), updated_at=user.updated_at)
            .returning(user),
            execution_options=QUIET | FRESH,
        )
        if confirmed is None:
            raise InvalidCredentialsException
        return confirmed
