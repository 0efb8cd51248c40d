"""Checks of `appkit check` on settings, for development and for production."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from appkit.core.environment import ignored_variables
from appkit.kit import AppKit, Check


def problems_of(variable: str) -> Callable[["AppKit"], list[str]]:
    """Create a check that finds the reasons why production would refuse the value of one variable."""
    return lambda kit: [found for found in kit.settings.production_problems() if found.startswith(variable)]


def find_debugging(kit: "AppKit") -> Iterator[str]:
    """Find debug settings that would expose internals."""
    if kit.app.debug:
        yield "FastAPI(debug=True)"
    if kit.settings.logging.level == "DEBUG":
        yield "LOGGING_LEVEL is DEBUG"


def find_missing_frontend(kit: "AppKit") -> Iterator[str]:
    """Find a missing or insecure FRONTEND_URL."""
    url = kit.settings.frontend.url
    if url is None:
        yield "FRONTEND_URL is missing"
    elif urlsplit(url).scheme != "https":
        yield "FRONTEND_URL does not begin with https://"


def find_missing_mail(kit: "AppKit") -> Iterator[str]:
    """Find a MAIL_URL that delivers no mail."""
    scheme = urlsplit(kit.settings.mail.url).scheme
    if scheme in {"console", "memory"}:
        yield "MAIL_URL is missing" if scheme == "console" else "MAIL_URL is memory://"


CHECKS = [
    Check(
        "AKC007",
        "A variable looks like a setting, but the app doesn't read the variable.",
        "Correct the name: `appkit settings` lists all names. If another program reads the variable, ignore this.",
        lambda kit: ignored_variables(type(kit.settings)),
    ),
    Check(
        "AKC101",
        "The signing secret is missing or weak. An attacker who guesses the secret can sign in as any user.",
        "Add a secret from `appkit secret` to AUTH_SECRET_KEYS, and store it where only the app can read it.",
        problems_of("AUTH_SECRET_KEYS"),
        deploy=True,
    ),
    Check(
        "AKC102",
        "Cookies would be sent over plain HTTP, so others could read the cookies.",
        "Unset AUTH_COOKIE_SECURE. In production, cookies are secure by default.",
        problems_of("AUTH_COOKIE_SECURE"),
        deploy=True,
    ),
    Check(
        "AKC103",
        "Pages of any website could send requests as the signed-in user.",
        "List the allowed origins in CORS_ORIGINS.",
        problems_of("CORS_ORIGINS"),
        deploy=True,
    ),
    Check(
        "AKC104",
        "Debug settings are on, so responses or log lines expose internals.",
        "Turn the debug settings off in production.",
        find_debugging,
        deploy=True,
    ),
    Check(
        "AKC105",
        "FRONTEND_URL is missing or no https:// URL, so links in mails and requests from pages fail.",
        "Set FRONTEND_URL to the URL at which users open the app.",
        find_missing_frontend,
        deploy=True,
    ),
    Check(
        "AKC106",
        "No mail is delivered, so users can't verify an e-mail address or reset a password.",
        "Set MAIL_URL to your mail server, as in smtp://user:password@mail.example.com:587.",
        find_missing_mail,
        deploy=True,
    ),
]
