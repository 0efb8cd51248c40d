"""AuthService: sign-up, sign-in (with challenges for another factor), sign-out and token refresh."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Final

from sqlalchemy import select, update

from appkit.domain.emails import parse_email
from appkit.domain.events import (
    GuessingSuspected,
    SigninChallenged,
    SigninFailed,
    SignupRepeated,
    UserSignedIn,
    UserSignedOut,
    UserSignedUp,
)
from appkit.exceptions import (
    EmailTakenException,
    InvalidCredentialsException,
    InvalidTokenException,
    SignupClosedException,
    TooManyRequestsException,
)
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.repository.context import app_context
from appkit.repository.user import BaseUser
from appkit.service.base import BaseService
from appkit.service.hashing import Security
from appkit.service.hookspecs import Challenge
from appkit.service.links import LinkService
from appkit.service.principals import UNKNOWN_DEVICE, Device, Kind, PendingSignIn, Principal, SignIn, TokenPair
from appkit.service.sessions import FRESH, QUIET, SessionService
from appkit.service.users import UserService

CHALLENGE: Final = "signin_challenge"
CHALLENGE_TTL: Final = 600  # Seconds: OWASP ASVS 6.5.5 allows ten minutes for a code that was sent.
CHALLENGE_TRIES: Final = 5
TRIES_BY_USER: Final = "10/15 minutes"
FAILURES_BY_ALL: Final = "1000/5 minutes"


class AuthService(BaseService):
    """Signs users up, in and out."""

    async def signup(
        self, email: str, password: str, *, device: Device = UNKNOWN_DEVICE, replaces: Collection[str | None] = ()
    ) -> SignIn | PendingSignIn:
        """Create an account, and sign its owner in.

        Args:
            email: The e-mail address; upper and lower case count as the same.
            password: As typed.
            device: Where the request comes from.
            replaces: The device's previous tokens; their sign-in sessions end.

        Raises:
            SignupClosedException: When the app accepts no sign-ups.
            EmailTakenException: When an account has this address.
            UnprocessableException: When the address or the password is not acceptable.
            ServiceUnavailableException: When too many passwords wait to be hashed.
        """
        user = await self._create(email, password)
        return await self.admit(user, methods=["pwd"], device=device, replaces=replaces)

    async def signup_verified(self, email: str) -> BaseUser:
        """Create an account without a password, for a user who has proved to own the address.

        Raises:
            SignupClosedException: When the app accepts no sign-ups.
            EmailTakenException: When an account has this address.
            UnprocessableException: When the address is not acceptable.
        """
        return await self._create(email, None, verified=True)

    async def signup_privately(self, email: str, password: str) -> None:
        """Create an account without revealing whether the address had one (OWASP ASVS 6.3.8).

        The answer is mailed to the address. A free and a taken address both cost one hash and one event. Call this in
        a transaction of its own, because this method rolls the transaction back if the address is taken.

        Raises:
            UnprocessableException: When the address or the password is not acceptable.
            ServiceUnavailableException: When too many passwords wait to be hashed.
        """
        try:
            user = await UserService(self.db).create(email, password)
        except EmailTakenException:
            await self.db.rollback()
            self.emit(SignupRepeated(email=email))
        else:
            self.emit(UserSignedUp(user_id=user.id))

    async def signin(
        self,
        email: str,
        password: str,
        *,
        remember: bool = False,
        kind: Kind = "browser",
        device: Device = UNKNOWN_DEVICE,
        replaces: Collection[str | None] = (),
    ) -> SignIn | PendingSignIn:
        """Sign in with a password, unless a plugin asks for another factor.

        The account is read in a short transaction, unless the caller has begun one. Argon2 runs after this transaction,
        so that it neither holds a connection nor blocks SQLite's writer.

        Args:
            email: The e-mail address, in upper or lower case.
            password: As typed.
            remember: Whether the sign-in session outlives the browser.
            kind: Whether a browser or a program keeps the tokens.
            device: Where the request comes from.
            replaces: The device's previous tokens; their sign-in sessions end (OWASP ASVS 7.2.4).

        Raises:
            InvalidCredentialsException: For an unknown address, a wrong password or a disabled account alike, and
                with `AUTH_SIGNUP_MODE=private` for an unverified address.
            ServiceUnavailableException: When too many passwords wait to be hashed.
        """
        passwords = Security.of(app_context(self.db)).passwords
        passwords.check()
        begun = self.db.in_transaction()
        user = await self._look_up(email)
        hashed = user.hashed_password if user else None
        correct = await passwords.verify(hashed, password)
        # In private mode, another answer for an unverified address would reveal after a sign-up if it was free.
        private = self.settings.auth.signup_mode == "private"
        if user is None or hashed is None or not correct or not user.is_open or (private and not user.email_verified):
            self.emit(SigninFailed(user_id=None if user is None else user.id, ip=device.ip))
            await self._count_failure()
            if not begun:
                await self.db.commit()  # Otherwise the exception would roll back the events.
            raise InvalidCredentialsException
        if passwords.is_outdated(hashed):
            await self._rehash(user, await passwords.hash(password))
        return await self.admit(user, methods=["pwd"], remember=remember, kind=kind, device=device, replaces=replaces)

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
        """Sign in a user who has authenticated, unless a plugin asks for another factor.

        Args:
            user: The user's object, as read before the user authenticated.
            methods: How the user authenticated (RFC 8176); include `mfa` after several factors.
            remember: Whether the sign-in session outlives the browser.
            kind: Whether a browser or a program keeps the tokens.
            device: Where the request comes from.
            replaces: The device's previous tokens; their sign-in sessions end (OWASP ASVS 7.2.4).

        Raises:
            InvalidCredentialsException: When the account is disabled, or has another security version than `user`.
        """
        challenge: Challenge | None = await self.plugins.first(
            "before_signin", user=user, methods=methods, device=device, db=self.db
        )
        if challenge is None:
            return await self._begin(user, methods, remember=remember, kind=kind, device=device, replaces=replaces)
        await self._sessions.end_replaced(replaces)
        data = {"methods": list(methods), "remember": remember, "kind": kind}
        token = await LinkService(self.db).make(user, CHALLENGE, ttl=CHALLENGE_TTL, data=data, others=True)
        self.emit(SigninChallenged(user_id=user.id, ip=device.ip))
        return PendingSignIn(challenge=token, factors=list(challenge.factors))

    async def challenged(self, challenge: str) -> BaseUser:
        """The user of a challenge. Call this before you check the user's proof: each call is one of five attempts.

        This method commits, so that a failed attempt counts too.

        Raises:
            InvalidTokenException: When the challenge is used, expired, or was attempted too often.
            TooManyRequestsException: After ten attempts without success for the account in 15 minutes.
        """
        try:
            user = await LinkService(self.db).attempt(challenge, CHALLENGE, limit=CHALLENGE_TRIES)
        except InvalidTokenException:
            raise InvalidTokenException("This took too long, or too many tries. Sign in again.") from None
        # Count by account too, because a correct password can start any number of challenges.
        await self.limiter.hit(TRIES_BY_USER, "challenge", user.id)
        return user

    async def complete(
        self,
        challenge: str,
        *,
        methods: Sequence[str],
        device: Device = UNKNOWN_DEVICE,
        replaces: Collection[str | None] = (),
    ) -> SignIn:
        """Sign in a user who met a challenge. Plugins aren't asked again.

        Args:
            challenge: The challenge's token; it can't be used again.
            methods: How the user met the challenge, such as `["otp"]`. The sign-in's methods and `mfa` are added.
            device: Where the request comes from.
            replaces: The device's previous tokens; their sign-in sessions end.

        Raises:
            InvalidTokenException: When the challenge is used or expired.
            InvalidCredentialsException: When the account was disabled meanwhile.
        """
        links = LinkService(self.db)
        user, data = await links.owner(challenge, CHALLENGE), (await links.consume(challenge, CHALLENGE)).data
        await self.limiter.clear(TRIES_BY_USER, "challenge", user.id)
        methods = list(dict.fromkeys([*data["methods"], *methods, "mfa"]))
        return await self._begin(
            user, methods, remember=data["remember"], kind=data["kind"], device=device, replaces=replaces
        )

    async def give_up(self, challenge: str) -> None:
        """Invalidate a challenge. If the challenge is invalid already, nothing happens."""
        with suppress(InvalidTokenException):
            await LinkService(self.db).consume(challenge, CHALLENGE)

    async def signout(self, *tokens: str | None) -> None:
        """End the sign-in sessions of these tokens, access or refresh, expired or not."""
        if not (held := Security.of(app_context(self.db)).tokens.session_ids(*tokens)):
            return
        for session_id, user_id in await self._sessions.end(AuthSession.id.in_(held), "signed_out"):
            self.emit(UserSignedOut(user_id=user_id, session_id=session_id))

    async def refresh(self, token: str) -> TokenPair:
        """Exchange a refresh token for the next pair, as `SessionService.refresh` describes."""
        return await self._sessions.refresh(token)

    async def user(self, principal: Principal) -> BaseUser:
        """The user of a principal, if their sign-in session is live, as `SessionService.user` describes."""
        return await self._sessions.user(principal)

    @cached_property
    def _sessions(self) -> SessionService:
        return SessionService(self.db)

    async def _create(self, email: str, password: str | None, *, verified: bool = False) -> BaseUser:
        if self.settings.auth.signup_mode == "closed":
            raise SignupClosedException
        user = await UserService(self.db).create(email, password, verified=verified)
        self.emit(UserSignedUp(user_id=user.id))
        return user

    async def _begin(self, user: BaseUser, methods: Sequence[str], *, kind: Kind, **options: Any) -> SignIn:
        user = await self._confirm(user)
        session = await self._sessions.begin(user, methods=methods, kind=kind, **options)
        self.emit(UserSignedIn(user_id=user.id, session_id=session.id))
        return SignIn(user=user, kind=kind, tokens=self._sessions.issue(user, session))

    async def _confirm(self, seen: BaseUser) -> BaseUser:
        """Read the account again; refuse if it was disabled, or if its security version is not the one of `seen`."""
        user = self.user_model
        confirmed: BaseUser | None = await self.db.scalar(
            update(user)
            .where(user.id == seen.id, user.security_version == seen.security_version, user.is_open)
            .values(last_signin_at=utcnow(), updated_at=user.updated_at)
            .returning(user),
            execution_options=QUIET | FRESH,
        )
        if confirmed is None:
            raise InvalidCredentialsException
        return confirmed

    async def _count_failure(self) -> None:
        """Count a failed sign-in for the whole app, and emit `GuessingSuspected` once when too many sign-ins failed."""
        from appkit.core.limits import parse_rule  # Imported here: code that only uses tables doesn't need `limits`.

        try:
            await self.limiter.hit(FAILURES_BY_ALL, "signin failures")
        except TooManyRequestsException as exc:
            if exc.report_as:
                rule = parse_rule(FAILURES_BY_ALL)
                self.emit(GuessingSuspected(failures=rule.amount, seconds=rule.get_expiry()))

    async def _look_up(self, email: str) -> BaseUser | None:
        try:
            key = parse_email(email).key
        except ValueError:
            return None
        begun, user = self.db.in_transaction(), self.user_model
        found = await self.db.scalar(select(user).where(user.email_key == key), execution_options=FRESH)
        if not begun:
            await self.db.commit()
        return found

    async def _rehash(self, seen: BaseUser, renewed: str) -> None:
        """Store a hash with today's parameters, unless the password was changed after `seen` was read."""
        user = self.user_model
        await self.db.execute(
            update(user)
            .where(user.id == seen.id, user.hashed_password == seen.hashed_password)
            .values(hashed_password=renewed, updated_at=user.updated_at),
            execution_options=QUIET,
        )
