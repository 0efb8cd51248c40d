"""Cookies: sets, clears and reads the access, refresh and device cookies."""

import re
from typing import Final, Literal, NamedTuple

from starlette.requests import HTTPConnection
from starlette.responses import Response

from appkit.core.settings import Settings
from appkit.service.principals import TokenPair

DEVICE_AGE: Final = 365 * 86400
"""Lifetime of the device cookie, in seconds."""


class CookieNames(NamedTuple):
    """The names of an app's cookies."""

    access: str
    refresh: str
    device: str


class PresentedTokens(NamedTuple):
    """The tokens of a request, not verified yet."""

    access: str | None
    refresh: str | None


def cookie_names(settings: Settings) -> CookieNames:
    """The names of an app's cookies. They contain the app's name, because all ports of a host share their cookies.

    Over HTTPS, the names start with `__Host-`: browsers then refuse such cookies from other hosts and over plain HTTP
    (RFC 6265bis, 4.1.3.2).
    """
    app = re.sub(r"[^a-z0-9]+", "_", settings.app_name.lower()).strip("_")
    prefix = "__Host-" if settings.secure_cookies else ""
    return CookieNames(f"{prefix}{app}_at", f"{prefix}{app}_rt", f"{prefix}{app}_dv")


def set_cookies(response: Response, settings: Settings, tokens: TokenPair) -> None:
    """Set the access and the refresh cookie, which scripts can't read.

    The access cookie outlives the token in it, so that the app can distinguish an expired token from a missing one.
    """
    names = cookie_names(settings)
    _set(response, settings, names.access, tokens.access, tokens.max_age, "lax")
    _set(response, settings, names.refresh, tokens.refresh, tokens.max_age, "strict")


def set_device_cookie(response: Response, settings: Settings, token: str) -> None:
    """Set the device cookie. It exempts a browser from lockouts that other clients cause, and is kept at sign-out."""
    _set(response, settings, cookie_names(settings).device, token, DEVICE_AGE, "strict")


def clear_cookies(response: Response, settings: Settings) -> None:
    """Delete the access and the refresh cookie."""
    names = cookie_names(settings)
    _set(response, settings, names.access, "", 0, "lax")
    _set(response, settings, names.refresh, "", 0, "strict")


def presented_tokens(connection: HTTPConnection, settings: Settings) -> PresentedTokens:
    """The tokens of a request: from its `Authorization` header if it has one, otherwise from its cookies.

    Cookies beside an `Authorization` header are ignored, because CSRF protection skips requests with a bearer token.
    """
    if (authorization := connection.headers.get("authorization")) is not None:
        scheme, _, token = authorization.partition(" ")
        return PresentedTokens(token if scheme.lower() == "bearer" else "", None)
    names = cookie_names(settings)
    return PresentedTokens(connection.cookies.get(names.access), connection.cookies.get(names.refresh))


def _set(
    response: Response,
    settings: Settings,
    name: str,
    value: str,
    max_age: int | None,
    same_site: Literal["lax", "strict"],
) -> None:
    response.set_cookie(
        name, value, max_age, path="/", secure=settings.secure_cookies, httponly=True, samesite=same_site
    )
