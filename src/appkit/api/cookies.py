"""Cookies: how a browser holds its tokens, and how they are read back from a request."""

import re
from typing import Final, Literal, NamedTuple

from starlette.requests import HTTPConnection
from starlette.responses import Response

from appkit.core.settings import Settings
from appkit.service.principals import TokenPair

DEVICE_AGE: Final = 365 * 86400
"""Seconds that a browser is known for after signing in."""


class CookieNames(NamedTuple):
    """What the cookies are called."""

    access: str
    refresh: str
    device: str


class PresentedTokens(NamedTuple):
    """The tokens that came with a request, not read yet."""

    access: str | None
    refresh: str | None


def cookie_names(settings: Settings) -> CookieNames:
    """The cookies' names: with the app's in them, for cookies don't know ports, and two apps may share a host.

    Over HTTPS they start with `__Host-`, with which a browser takes them from no other host, nor over plain HTTP
    (RFC 6265bis, 4.1.3.2).
    """
    app = re.sub(r"[^a-z0-9]+", "_", settings.app_name.lower()).strip("_")
    prefix = "__Host-" if settings.secure_cookies else ""
    return CookieNames(f"{prefix}{app}_at", f"{prefix}{app}_rt", f"{prefix}{app}_dv")


def set_cookies(response: Response, settings: Settings, tokens: TokenPair) -> None:
    """Give the browser its tokens, out of reach of scripts.

    The access cookie outlives its token, so that a token past its time is told from none.
    """
    names = cookie_names(settings)
    _set(response, settings, names.access, tokens.access, tokens.max_age, "lax")
    _set(response, settings, names.refresh, tokens.refresh, tokens.max_age, "strict")


def remember_device(response: Response, settings: Settings, token: str) -> None:
    """Let the browser be known again, which others' guesses at the password don't lock out. Signing out keeps it."""
    _set(response, settings, cookie_names(settings).device, token, DEVICE_AGE, "strict")


def clear_cookies(response: Response, settings: Settings) -> None:
    """Make the browser forget its tokens."""
    names = cookie_names(settings)
    _set(response, settings, names.access, "", 0, "lax")
    _set(response, settings, names.refresh, "", 0, "strict")


def presented_tokens(connection: HTTPConnection, settings: Settings) -> PresentedTokens:
    """The tokens of a request: those in its cookies, or, when it has an `Authorization`, that one and no other.

    Whoever sends `Authorization` is not checked for where the request comes from: their cookies must not count.
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
