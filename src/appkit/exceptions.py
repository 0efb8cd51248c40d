"""Exceptions: every error of the API, with its HTTP status, its internal code and its message.

Every layer may import this module, so services raise API errors without importing the API layer.
"""

from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any, ClassVar

_FIRST = {400: 40000, 401: 40100, 403: 40200, 404: 40400, 409: 40900, 413: 41300, 422: 42200, 429: 42900}
RANGES: Mapping[int, range] = MappingProxyType({status: range(first, first + 100) for status, first in _FIRST.items()})
"""The internal codes of each status. All 5xx statuses share 50000 to 59999."""

_SERVER_STATUSES = range(500, 600)
_SERVER_RANGE = range(50000, 60000)
_registry: dict[int, type["APIException"]] = {}


class AppKitError(Exception):
    """A developer's mistake, found while an app is written or started. Never an HTTP error."""


class APIException(Exception):
    """Base class of all errors of the API. Raise its subclasses.

    For an error of your own, subclass the exception with the right status, and set a code and a message:

        class AlreadyBookmarkedException(ConflictException):
            '''The signed-in user already keeps this page.'''

            internal_code = 40901
            detail = "You already keep this page."

    In each range, codes 01 to 49 are for the app, 50 to 79 for appkit and 80 to 99 for plugins. For 5xx, plugins have
    50080 to 50099, and the app has the codes from 50101 on.

    Args:
        detail: A sentence for the user who made the request, instead of the sentence of the class.
        extra: More members of the JSON body (the problem document, RFC 9457).

    Raises:
        AppKitError: When you define a class with a code that is taken or outside the range of the class's status.
    """

    status_code: ClassVar[int] = 500
    internal_code: ClassVar[int] = 50000
    detail: str = "Something went wrong on our side."
    retryable: ClassVar[bool] = False
    """Whether a task that fails with this exception is retried. Otherwise the task is dead."""

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if detail is not None:
            self.detail = detail
        self.headers: dict[str, str] = dict(headers or {})
        self.extra: dict[str, Any] = dict(extra or {})
        super().__init__(self.detail)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        code, codes = cls.internal_code, codes_for(cls.status_code)
        if code not in codes:
            raise AppKitError(
                f"{cls.__qualname__} answers {cls.status_code}, whose codes are {codes[0]} to {codes[-1]}, "
                f"but its internal_code is {code}. The next free one is {_next_free(codes)}."
            )
        if "internal_code" in cls.__dict__:
            holder = _registry.setdefault(code, cls)
            if _name(holder) != _name(cls):
                raise AppKitError(
                    f"{_name(cls)} has the internal_code {code}, which {_name(holder)} has already. "
                    f"The next free one is {_next_free(codes)}."
                )
            _registry[code] = cls  # A reload defines the same class again, and the newest class counts.

    @staticmethod
    def registry() -> Mapping[int, type["APIException"]]:
        """All exception classes of this process, sorted by internal code."""
        return MappingProxyType(dict(sorted(_registry.items())))


def codes_for(status_code: int) -> range:
    """The range of internal codes for a status. Raises `AppKitError` for a status without a range."""
    if status_code in _SERVER_STATUSES:
        return _SERVER_RANGE
    if status_code not in RANGES:
        known = ", ".join(map(str, RANGES))
        raise AppKitError(f"There are no error codes for status {status_code}. Use one of {known}, or a 5xx.")
    return RANGES[status_code]


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _next_free(codes: range) -> int:
    """The first free code for apps. If all of these are taken, the first free code of the range."""
    own = range(50101, 60000) if codes == _SERVER_RANGE else range(codes[1], codes[50])
    return next(code for code in chain(own, codes) if code not in _registry)


class BadRequestException(APIException):
    """The request is malformed."""

    status_code = 400
    internal_code = 40000
    detail = "The request could not be understood."


class InvalidTokenException(BadRequestException):
    """A one-time token is unknown, used, expired or for another purpose."""

    internal_code = 40050
    detail = "This link is no longer valid. Ask for a new one."


class UnauthorizedException(APIException):
    """Nobody is signed in, or the credentials are not valid."""

    status_code = 401
    internal_code = 40100
    detail = "Sign in to go on."


class TokenExpiredException(UnauthorizedException):
    """The access token has expired. Refresh it, and repeat the request."""

    internal_code = 40150
    detail = "Your access has expired. Refresh it and try again."


class InvalidCredentialsException(UnauthorizedException):
    """The e-mail address or the password is wrong, or the account is disabled. The answer doesn't reveal which."""

    internal_code = 40151
    detail = "The e-mail address or the password is wrong."


class SessionRevokedException(UnauthorizedException):
    """The sign-in session was revoked or has expired."""

    internal_code = 40152
    detail = "This session has ended. Sign in again."


class RefreshReplayedException(UnauthorizedException):
    """An old refresh token was used again. This ends the sign-in session (RFC 9700, 4.14.2)."""

    internal_code = 40153
    detail = "This session was ended for your safety. Sign in again."


class ForbiddenException(APIException):
    """The user is signed in, but not allowed to do this."""

    status_code = 403
    internal_code = 40200
    detail = "You are not allowed to do this."


class CrossSiteRequestException(ForbiddenException):
    """A page of another site made the browser send this request (CSRF)."""

    internal_code = 40250
    detail = "This request came from another site and was refused."


class ReauthenticationRequiredException(ForbiddenException):
    """The last sign-in was too long ago for this request."""

    internal_code = 40251
    detail = "Enter your password again to go on."


class WrongPasswordException(ForbiddenException):
    """A signed-in user entered a wrong password. The status is not 401, because the user stays signed in."""

    internal_code = 40252
    detail = "The current password is wrong."


class EmailNotVerifiedException(ForbiddenException):
    """The e-mail address must be verified first."""

    internal_code = 40253
    detail = "Verify your e-mail address first."


class SignupClosedException(ForbiddenException):
    """The app accepts no sign-ups."""

    internal_code = 40254
    detail = "Signing up is closed."


class SecondFactorRequiredException(ForbiddenException):
    """The route requires a sign-in with a second factor."""

    internal_code = 40255
    detail = "Sign in with a second factor to go on."


class ScopeMissingException(ForbiddenException):
    """The scopes of the credentials don't allow this request."""

    internal_code = 40256
    detail = "These credentials don't allow this request."


class SessionRequiredException(ForbiddenException):
    """The route requires a user who signed in. An API key is not enough."""

    internal_code = 40257
    detail = "Sign in to do this: a key is not enough."


class NotFoundException(APIException):
    """The resource does not exist, or the client may not see it."""

    status_code = 404
    internal_code = 40400
    detail = "There is nothing here."


class ConflictException(APIException):
    """The request contradicts existing data."""

    status_code = 409
    internal_code = 40900
    detail = "This contradicts what is already there."


class EmailTakenException(ConflictException):
    """An account with this e-mail address exists."""

    internal_code = 40950
    detail = "An account with this e-mail address exists already."


class ConstraintViolatedException(ConflictException):
    """A database constraint refused a row. If the fields are known, `errors` names them."""

    internal_code = 40951
    detail = "This contradicts what is already stored."
    retryable = True


class StaleVersionException(ConflictException):
    """Somebody else changed the row after it was read."""

    internal_code = 40952
    detail = "Someone else changed this in the meantime. Load it again."
    retryable = True


class PayloadTooLargeException(APIException):
    """The request body is too large."""

    status_code = 413
    internal_code = 41300
    detail = "The request is too large."


class UnprocessableException(APIException):
    """Some values of the request are not acceptable."""

    status_code = 422
    internal_code = 42200
    detail = "Some of the values are not acceptable."


class TooManyRequestsException(APIException):
    """The client exceeded a rate limit.

    Args:
        retry_after: Seconds until the next request may succeed, sent as `Retry-After` (RFC 9110, 10.2.3).
        report_as: The limited action, for the event `RateLimited`. Without it, no event is emitted. A limiter sets it
            only for the first refusal in a window.
    """

    status_code = 429
    internal_code = 42900
    detail = "Too many requests. Wait a moment and try again."
    retryable = True

    def __init__(self, detail: str | None = None, *, retry_after: int = 1, report_as: str | None = None) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})
        self.report_as = report_as


class ServerException(APIException):
    """An error on the server."""

    internal_code = 50000
    retryable = True


class ServiceUnavailableException(ServerException):
    """The server is overloaded, or something that the server needs doesn't answer.

    Args:
        retry_after: Seconds until the next request may succeed, sent as `Retry-After` (RFC 9110, 10.2.3).
    """

    status_code = 503
    internal_code = 50050
    detail = "We are busy. Try again in a moment."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})
