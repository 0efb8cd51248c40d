"""What can go wrong: every error an app shows people, with its status, its code and its sentence.

A leaf that every layer may import, so that a rule can say what went wrong without knowing HTTP.

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
"""Which internal codes belong to which status; every 5xx shares 50000 to 59999."""

_SERVER_STATUSES = range(500, 600)
_SERVER_RANGE = range(50000, 60000)
_registry: dict[int, type["APIException"]] = {}


class AppKitError(Exception):
    """The developer's mistake: raised while an app is written or started, never an HTTP error."""


class APIException(Exception):
    """Never raised directly: what every error with an answer of its own has in common.

    Subclass the exception for the status you mean, and give it a code and a sentence:

        class AlreadyBookmarkedException(ConflictException):
            '''The signed-in person already keeps this page.'''

            internal_code = 40901
            detail = "You already keep this page."

    Codes 01 to 49 of a range are the app's, 50 to 79 appkit's and 80 to 99 plugins';
    an app's own 5xx codes start at 50101.

    Args:
        detail: A sentence for the person who made the request, instead of the class's own.
        headers: Headers that the answer carries.
        extra: Further members of the problem document, for the caller's program.

    Raises:
        AppKitError: When a class is made whose code is out of its status's range or is taken.
    """

    status_code: ClassVar[int] = 500
    internal_code: ClassVar[int] = 50000
    detail: str = "Something went wrong on our side."
    retryable: ClassVar[bool] = False
    """Whether a task that fails with it is tried again, or is dead at once."""

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
            _claim(code, cls, codes)

    @staticmethod
    def registry() -> Mapping[int, type["APIException"]]:
        """Every exception class of this process by its internal code, in the order of the codes."""
        return MappingProxyType(dict(sorted(_registry.items())))


def codes_for(status_code: int) -> range:
    """The internal codes that an exception with this status may use.

    Raises:
        AppKitError: When the status has no range.
    """
    if status_code in _SERVER_STATUSES:
        return _SERVER_RANGE
    if status_code not in RANGES:
        known = ", ".join(map(str, RANGES))
        raise AppKitError(f"No error codes are set aside for status {status_code}. Use one of {known}, or a 5xx.")
    return RANGES[status_code]


def _claim(code: int, cls: type[APIException], codes: range) -> None:
    holder = _registry.setdefault(code, cls)
    if _name(holder) != _name(cls):
        raise AppKitError(
            f"{_name(cls)} wants the internal_code {code}, which {_name(holder)} holds. "
            f"The next free one is {_next_free(codes)}."
        )
    _registry[code] = cls  # A reload makes the same class anew: the newest one counts.


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _next_free(codes: range) -> int:
    """The first free code that is an app's to take, or, when those are gone, any."""
    own = range(50101, 60000) if codes == _SERVER_RANGE else range(codes[1], codes[50])
    return next(code for code in chain(own, codes) if code not in _registry)


# 400


class BadRequestException(APIException):
    """The request makes no sense as it stands."""

    status_code = 400
    internal_code = 40000
    detail = "The request could not be understood."


class InvalidTokenException(BadRequestException):
    """A one-time token is unknown, used, expired or meant for something else."""

    internal_code = 40050
    detail = "This link is no longer valid. Ask for a new one."


# 401


class UnauthorizedException(APIException):
    """Nobody is signed in, or the credentials prove nothing."""

    status_code = 401
    internal_code = 40100
    detail = "Sign in to go on."

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        # RFC 9110, 11.6.1: a 401 says how to authenticate.
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer", **(headers or {})}, extra=extra)


class TokenExpiredException(UnauthorizedException):
    """The access token was good and is past its time: refresh it, and repeat the request."""

    internal_code = 40150
    detail = "Your access has expired. Refresh it and try again."


class InvalidCredentialsException(UnauthorizedException):
    """The address is unknown, the password is wrong, or the account is disabled: which one is not said."""

    internal_code = 40151
    detail = "The e-mail address or the password is wrong."


class SessionRevokedException(UnauthorizedException):
    """The session was signed out, revoked or has ended."""

    internal_code = 40152
    detail = "This session has ended. Sign in again."


class RefreshReplayedException(UnauthorizedException):
    """A refresh token was used again after its successor was issued, which revokes the session (RFC 9700, 4.14.2)."""

    internal_code = 40153
    detail = "This session was ended for your safety. Sign in again."


# 403


class ForbiddenException(APIException):
    """The person is known, and may not do this."""

    status_code = 403
    internal_code = 40200
    detail = "You are not allowed to do this."


class CrossSiteRequestException(ForbiddenException):
    """Another website sent this request with our cookies."""

    internal_code = 40250
    detail = "This request came from another site and was refused."


class ReauthenticationRequiredException(ForbiddenException):
    """The sign-in is too old for something this sensitive."""

    internal_code = 40251
    detail = "Enter your password again to go on."


class WrongPasswordException(ForbiddenException):
    """The current password, asked for again, is wrong; not a 401, for the session is still good."""

    internal_code = 40252
    detail = "The current password is wrong."


class EmailNotVerifiedException(ForbiddenException):
    """The address must be verified before this is allowed."""

    internal_code = 40253
    detail = "Verify your e-mail address first."


class SignupClosedException(ForbiddenException):
    """This app takes no sign-ups."""

    internal_code = 40254
    detail = "Signing up is closed."


class SecondFactorRequiredException(ForbiddenException):
    """The person signed in with one proof of who they are, and this asks for two."""

    internal_code = 40255
    detail = "Sign in with a second factor to go on."


class ScopeMissingException(ForbiddenException):
    """The credentials are not good for this, though the person may do it."""

    internal_code = 40256
    detail = "These credentials are not good for this."


class SessionRequiredException(ForbiddenException):
    """A program's key was sent for something that only somebody who signed in may do."""

    internal_code = 40257
    detail = "Sign in to do this: a key is not enough."


# 404


class NotFoundException(APIException):
    """What was asked for is not there, or is not the caller's to see."""

    status_code = 404
    internal_code = 40400
    detail = "There is nothing here."


# 409


class ConflictException(APIException):
    """The request is fine, and contradicts what is already there."""

    status_code = 409
    internal_code = 40900
    detail = "This contradicts what is already there."


class EmailTakenException(ConflictException):
    """Someone already signed up with this e-mail address."""

    internal_code = 40950
    detail = "An account with this e-mail address exists already."


class ConstraintViolatedException(ConflictException):
    """The database refused a row; `errors` names the fields where they are known."""

    internal_code = 40951
    detail = "This contradicts what is already stored."
    retryable = True


class StaleVersionException(ConflictException):
    """Someone else changed the row since it was read."""

    internal_code = 40952
    detail = "Someone else changed this in the meantime. Load it again."
    retryable = True


# 413


class PayloadTooLargeException(APIException):
    """The body is larger than the app accepts."""

    status_code = 413
    internal_code = 41300
    detail = "The request is too large."


# 422


class UnprocessableException(APIException):
    """The body is readable, and some of its values are not acceptable."""

    status_code = 422
    internal_code = 42200
    detail = "Some of the values are not acceptable."


# 429


class TooManyRequestsException(APIException):
    """The caller went over a rate limit.

    Args:
        detail: A sentence for the person who made the request.
        retry_after: Seconds until the next request may succeed, sent as `Retry-After` (RFC 9110, 10.2.3).
        news: What was done too often, where it is the first time that somebody was turned away for it: `RateLimited`.
    """

    status_code = 429
    internal_code = 42900
    detail = "Too many requests. Wait a moment and try again."
    retryable = True

    def __init__(self, detail: str | None = None, *, retry_after: int = 1, news: str | None = None) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})
        self.news = news


# 5xx


class ServerException(APIException):
    """Something broke that is nobody's fault but ours."""

    internal_code = 50000
    retryable = True


class ServiceUnavailableException(ServerException):
    """We can't answer now, and may be able to in a moment.

    Args:
        detail: A sentence for the person who made the request.
        retry_after: Seconds until the next request may succeed, sent as `Retry-After` (RFC 9110, 10.2.3).
    """

    status_code = 503
    internal_code = 50050
    detail = "We are busy. Try again in a moment."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})
