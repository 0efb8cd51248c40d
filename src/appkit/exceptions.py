"""Exceptions: every error of the API, with its HTTP status, its internal code and its message.

Every layer may import this module, so that services can raise API errors without importing the API layer.

    APIException
    ├── BadRequestException            400  40000-40099
    ├── UnauthorizedException          401  40100-40199
    ├── ForbiddenException             403  40200-40299
    ├── NotFoundException              404  40400-40499
    ├── ConflictException              409  40900-40999
    ├── PayloadTooLargeException       413  41300-41399
    ├── UnprocessableException         422  42200-42299
    ├── TooManyRequestsException       429  42900-42999
    └── ServerException                500  50000-59999
        └── ServiceUnavailableException 503
"""

from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any, ClassVar

RANGES: Mapping[int, range] = MappingProxyType(
    {
        400: range(40000, 40100),
        401: range(40100, 40200),
        403: range(40200, 40300),
        404: range(40400, 40500),
        409: range(40900, 41000),
        413: range(41300, 41400),
        422: range(42200, 42300),
        429: range(42900, 43000),
    }
)
"""The internal codes of each status; all 5xx share 50000 to 59999."""

_SERVER_STATUSES = range(500, 600)
_SERVER_RANGE = range(50000, 60000)
_registry: dict[int, type["APIException"]] = {}


class AppKitError(Exception):
    """A mistake of the developer: raised while an app is written or started, never an HTTP error."""


class APIException(Exception):
    """Base class of all errors that the API answers. Raise its subclasses.

    For an error of your own, subclass the exception with the right status, and set a code and a message:

        class AlreadyBookmarkedException(ConflictException):
            '''The signed-in person already keeps this page.'''

            internal_code = 40901
            detail = "You already keep this page."

    In each range, codes 01 to 49 are the app's, 50 to 79 appkit's and 80 to 99 for plugins. An app's own 5xx codes
    start at 50101.

    Args:
        detail: A sentence for the user who made the request, instead of the class's own.
        headers: Headers of the response.
        extra: More members of the problem document, for the client's code.

    Raises:
        AppKitError: When a class is defined whose code is outside of its status's range, or taken.
    """

    status_code: ClassVar[int] = 500
    internal_code: ClassVar[int] = 50000
    detail: str = "Something went wrong on our side."
    retryable: ClassVar[bool] = False
    """Whether a task that fails with this exception is retried. Otherwise it is dead at once."""

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
            _register(code, cls, codes)

    @staticmethod
    def registry() -> Mapping[int, type["APIException"]]:
        """All exception classes of this process, by internal code and in its order."""
        return MappingProxyType(dict(sorted(_registry.items())))


def codes_for(status_code: int) -> range:
    """The range of internal codes for a status.

    Raises:
        AppKitError: When the status has no range.
    """
    if status_code in _SERVER_STATUSES:
        return _SERVER_RANGE
    if status_code not in RANGES:
        known = ", ".join(map(str, RANGES))
        raise AppKitError(f"There are no error codes for status {status_code}. Use one of {known}, or a 5xx.")
    return RANGES[status_code]


def _register(code: int, cls: type[APIException], codes: range) -> None:
    holder = _registry.setdefault(code, cls)
    if _name(holder) != _name(cls):
        raise AppKitError(
            f"{_name(cls)} has the internal_code {code}, which {_name(holder)} has already. "
            f"The next free one is {_next_free(codes)}."
        )
    _registry[code] = cls  # A reload defines the same class again: the newest counts.


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _next_free(codes: range) -> int:
    """The first free code of the app's own, or any free code when those are taken."""
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
    """The access token has expired: refresh it, and repeat the request."""

    internal_code = 40150
    detail = "Your access has expired. Refresh it and try again."


class InvalidCredentialsException(UnauthorizedException):
    """The address is unknown, the password is wrong, or the account is disabled; the answer doesn't reveal which."""

    internal_code = 40151
    detail = "The e-mail address or the password is wrong."


class SessionRevokedException(UnauthorizedException):
    """The sign-in session was signed out, revoked or has expired."""

    internal_code = 40152
    detail = "This session has ended. Sign in again."


class RefreshReplayedException(UnauthorizedException):
    """A refresh token was used again after its successor, which ends the sign-in session (RFC 9700, 4.14.2)."""

    internal_code = 40153
    detail = "This session was ended for your safety. Sign in again."


class ForbiddenException(APIException):
    """The user is signed in, but not allowed to do this."""

    status_code = 403
    internal_code = 40200
    detail = "You are not allowed to do this."


class CrossSiteRequestException(ForbiddenException):
    """Another website sent this request with our cookies (CSRF)."""

    internal_code = 40250
    detail = "This request came from another site and was refused."


class ReauthenticationRequiredException(ForbiddenException):
    """The password was entered too long ago for something this sensitive."""

    internal_code = 40251
    detail = "Enter your password again to go on."


class WrongPasswordException(ForbiddenException):
    """The password that a signed-in user entered again is wrong. Not a 401, because the session is still live."""

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
    """This requires a sign-in with a second factor."""

    internal_code = 40255
    detail = "Sign in with a second factor to go on."


class ScopeMissingException(ForbiddenException):
    """The credentials lack a scope. The user is allowed to do this with other credentials."""

    internal_code = 40256
    detail = "These credentials are not good for this."


class SessionRequiredException(ForbiddenException):
    """This requires a user who signed in; an API key is not enough."""

    internal_code = 40257
    detail = "Sign in to do this: a key is not enough."


class NotFoundException(APIException):
    """It doesn't exist, or the client may not see it."""

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
    """The database refused a row because of a constraint; `errors` names the fields if they are known."""

    internal_code = 40951
    detail = "This contradicts what is already stored."
    retryable = True


class StaleVersionException(ConflictException):
    """The row was changed by another request since it was read."""

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
        detail: A sentence for the user who made the request.
        retry_after: Seconds until the next request may succeed, sent as `Retry-After` (RFC 9110, 10.2.3).
        report_as: The limited action, if this refusal is the first in its period: `RateLimited` reports it.
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
    """The server is overloaded, or something it needs doesn't answer; try again in a moment.

    Args:
        detail: A sentence for the user who made the request.
        retry_after: Seconds until the next request may succeed, sent as `Retry-After` (RFC 9110, 10.2.3).
    """

    status_code = 503
    internal_code = 50050
    detail = "We are busy. Try again in a moment."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})
