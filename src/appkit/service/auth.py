"""AuthService: sign-up, sign-in, challenges for another factor, sign-out and token refresh."""

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
from appkit.service.base import FRESH, QUIET, BaseService
from appkit.service.hashing import Security
from appkit.service.hookspecs import Challenge
from appkit.service.links import LinkService
from appkit.service.principals import UNKNOWN_DEVICE, Device, Kind, PendingSignIn, Principal, SignIn, TokenPair
from appkit.service.sessions import SessionService
from appkit.service.users import UserService

CHALLENGE: Final = "signin_challenge"
CHALLENGE_TTL: Final = 600  # Seconds: OWASP ASVS 6.5.5 allows ten minutes for a code that was sent.
CHALLENGE_TRIES: Final = 5
TRIES_BY_USER: Final = "10/15 minutes"
FAILURES_BY_ALL: Final = "1000/5 minutes"


class AuthService(BaseService):
    """Signs users up, in and out.

    Several methods have these arguments:

    - `methods`: how the user authenticated (RFC 8176), such as `["pwd"]`.
    - `remember`: whether the sign-in session outlives the browser.
    - `kind`: whether a browser or a program keeps the tokens.
    - `device`: the IP address and user agent of the request.
    - `replaces`: the previous tokens of the device. Their sign-in sessions end (OWASP ASVS 7.2.4).
    """

    async def signup(
        self, email: str, password: str, *, device: Device = UNKNOWN_DEVICE, replaces: Collection[str | None] = ()
    ) -> SignIn | PendingSignIn:
        """Create an account, and sign the owner in.

        Raises:
            SignupClosedException: When the app accepts no sign-ups.
            EmailTakenException: When an account has this e-mail address, in upper or lower case.
            UnprocessableException: When the e-mail address or the password is not acceptable.
            ServiceUnavailableException: When too many passwords wait to be hashed.
        """
        user = await self._create(email, password)
        return await self.admit(user, methods=["pwd"], device=device, replaces=replaces)

    async def signup_verified(self, email: str) -> BaseUser:
        """Create an account without a password. The caller must have proof that the user owns the address.

        Raises:
            SignupClosedException: When the app accepts no sign-ups.
            EmailTakenException: When an account has this e-mail address.
            UnprocessableException: When the e-mail address is not acceptable.
        """
        return await self._create(email, None, verified=True)

    async def signup_privately(self, email: str, password: str) -> None:
        """Create an account without revealing whether the e-mail address had one (OWASP ASVS 6.3.8).

        The answer is mailed to the address. To take the same time for a free and for a taken address, this hashes the
        password and enqueues one task in both cases. Call this method in a separate transaction, because a taken
        address rolls the transaction back.

        Raises:
            UnprocessableException: When the e-mail address or the password is not acceptable.
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

        Call this method outside a transaction. The account is then read in a short transaction that ends before Argon2
        runs, so Argon2 neither holds a connection nor blocks SQLite's writer.

        Raises:
            InvalidCredentialsException: When the e-mail address is unknown, the password is wrong, or the account is
                disabled. With `AUTH_SIGNUP_MODE=private`, also when the address is unverified.
            ServiceUnavailableException: When too many passwords wait to be hashed.
        """
        passwords = Security.of(app_context(self.db)).passwords
        passwords.check()
        begun = self.db.in_transaction()
        user = await self._look_up(email)
        hashed = user.hashed_password if user else None
        correct = await passwords.verify(hashed, password)
        # In private mode, a new account can't sign in yet: otherwise a sign-in would reveal that the address was free.
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

        Load `user` before you check the password or another proof, so that a new password in the meantime is noticed.
        If the user has passed several factors, `methods` contains `mfa`.

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
        """The user of a challenge. Each call counts as one of five attempts, so call this before you check the proof.

        This method commits, so that a failed attempt counts too.

        Raises:
            InvalidTokenException: When the challenge is used or expired, or was attempted too often.
            TooManyRequestsException: When the account had ten attempts without success in 15 minutes.
        """
        try:
            user = await LinkService(self.db).attempt(challenge, CHALLENGE, limit=CHALLENGE_TRIES)
        except InvalidTokenException:
            raise InvalidTokenException("The sign-in took too long, or had too many attempts. Sign in again.") from None
        # Count for each account too, because a correct password can start any number of challenges.
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
        """Sign in a user who passed a challenge. The challenge becomes invalid, and plugins aren't asked again.

        `methods` are those of the challenge, such as `["otp"]`. `mfa` and the methods of the sign-in are added to them.

        Raises:
            InvalidTokenException: When the challenge is used or expired, or the account is disabled.
            InvalidCredentialsException: When the account is disabled during this call.
        """
        links = LinkService(self.db)
        user, data = await links.owner(challenge, CHALLENGE), (await links.consume(challenge, CHALLENGE)).data
        await self.limiter.clear(TRIES_BY_USER, "challenge", user.id)
        methods = list(dict.fromkeys([*data["methods"], *methods, "mfa"]))
        return await self._begin(
            user, methods, remember=data["remember"], kind=data["kind"], device=device, replaces=replaces
        )

    async def give_up(self, challenge: str) -> None:
        """Invalidate a challenge. For an invalid challenge, this does nothing."""
        with suppress(InvalidTokenException):
            await LinkService(self.db).consume(challenge, CHALLENGE)

    async def signout(self, *tokens: str | None) -> None:
        """End the sign-in sessions of access and refresh tokens, even of expired ones."""
        if held := Security.of(app_context(self.db)).tokens.session_ids(*tokens):
            for session_id, user_id in await self._sessions.end(AuthSession.id.in_(held), "signed_out"):
                self.emit(UserSignedOut(user_id=user_id, session_id=session_id))

    async def refresh(self, token: str) -> TokenPair:
        """Exchange a refresh token for the next pair, as `SessionService.refresh` describes."""
        return await self._sessions.refresh(token)

    async def user(self, principal: Principal) -> BaseUser:
        """The user of a principal, if the sign-in session is live, as `SessionService.user` describes."""
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
        confirmed = await UserService(self.db).update_if_current(
            user.id, user.security_version, last_signin_at=utcnow(), updated_at=self.user_model.updated_at
        )
        if confirmed is None:
            raise InvalidCredentialsException
        session = await self._sessions.begin(confirmed, methods=methods, kind=kind, **options)
        self.emit(UserSignedIn(user_id=confirmed.id, session_id=session.id))
        return SignIn(user=confirmed, kind=kind, tokens=self._sessions.issue(confirmed, session))

    async def _count_failure(self) -> None:
        """Count a failed sign-in for the whole app, and emit `GuessingSuspected` once when too many sign-ins failed."""
        from appkit.core.limits import parse_rule  # Imported here, because code that only uses tables doesn't need it.

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
        """Store a hash with the current parameters, unless the password was changed after `seen` was read."""
        user = self.user_model
        await self.db.execute(
            update(user)
            .where(user.id == seen.id, user.hashed_password == seen.hashed_password)
            .values(hashed_password=renewed, updated_at=user.updated_at),
            execution_options=QUIET,
        )
