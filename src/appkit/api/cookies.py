"""Cookies: sets, clears and reads the access, refresh and device cookies."""

import re
from typing import Any, Final, NamedTuple

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
    """The tokens of a request, before they are verified."""

    access: str | None
    refresh: str | None


def cookie_names(settings: Settings) -> CookieNames:
    """The names of an app's cookies. They contain the app's name, because all ports of a host share their cookies.

    Over HTTPS, the names start with `__Host-`: no other host can set such a cookie (RFC 6265bis, 4.1.3.2).
    """
    app = re.sub(r"[^a-z0-9]+", "_", settings.app_name.lower()).strip("_")
    prefix = "__Host-" if settings.secure_cookies else ""
    return CookieNames(f"{prefix}{app}_at", f"{prefix}{app}_rt", f"{prefix}{app}_dv")


def set_cookies(response: Response, settings: Settings, tokens: TokenPair) -> None:
    """Set the access and the refresh cookie.

    The access cookie outlives its token. Otherwise an expired token would look like a missing token.
    """
    names, options = cookie_names(settings), _options(settings)
    response.set_cookie(names.access, tokens.access, tokens.max_age, samesite="lax", **options)
    response.set_cookie(names.refresh, tokens.refresh, tokens.max_age, samesite="strict", **options)


def set_device_cookie(response: Response, settings: Settings, token: str) -> None:
    """Set the device cookie, which sign-out keeps. It protects the browser from lockouts that other clients cause."""
    response.set_cookie(cookie_names(settings).device, token, DEVICE_AGE, samesite="strict", **_options(settings))


def clear_cookies(response: Response, settings: Settings) -> None:
    """Delete the access and the refresh cookie."""
    names, options = cookie_names(settings), _options(settings)
    response.set_cookie(names.access, max_age=0, samesite="lax", **options)
    response.set_cookie(names.refresh, max_age=0, samesite="strict", **options)


def presented_tokens(connection: HTTPConnection, settings: Settings) -> PresentedTokens:
    """The tokens of a request, from its `Authorization` header or its cookies.

    If the header is present, cookies are ignored: the CSRF protection doesn't check requests with a bearer token.
    """
    if (authorization := connection.headers.get("authorization")) is not None:
        scheme, _, token = authorization.partition(" ")
        return PresentedTokens(token if scheme.lower() == "bearer" else "", None)
    names = cookie_names(settings)
    return PresentedTokens(connection.cookies.get(names.access), connection.cookies.get(names.refresh))


def _options(settings: Settings) -> dict[str, Any]:
    return {"path": "/", "secure": settings.secure_cookies, "httponly": True}
