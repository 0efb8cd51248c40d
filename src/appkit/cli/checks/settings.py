"""Checks of the environment and the plugins, and of what is only good for trying things out."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from appkit.core.environment import ignored_variables
from appkit.kit import AppKit, Check


def find_ignored_variables(kit: "AppKit") -> list[str]:
    """Variables that look like settings and are none."""
    return ignored_variables(type(kit.settings))


def find_broken_plugins(kit: "AppKit") -> list[str]:
    """Plugins that could not be loaded, or that fail while the app is put together."""
    _ = kit.app, kit.broker
    return [f"{name}: {type(exc).__name__}: {exc}" for name, exc in kit.plugins.failed.items()]


def problems_of(variable: str) -> Callable[["AppKit"], list[str]]:
    """What production would refuse about one variable."""
    return lambda kit: [found for found in kit.settings.production_problems() if found.startswith(variable)]


def find_debugging(kit: "AppKit") -> Iterator[str]:
    """What shows more than others should see."""
    if kit.app.debug:
        yield "FastAPI(debug=True)"
    if kit.settings.logging.level == "DEBUG":
        yield "LOGGING_LEVEL is DEBUG"


def find_missing_frontend(kit: "AppKit") -> Iterator[str]:
    """A frontend's address that links can't lead to."""
    url = kit.settings.frontend.url
    if url is None:
        yield "FRONTEND_URL is missing"
    elif urlsplit(url).scheme != "https":
        yield "FRONTEND_URL does not begin with https://"


def find_missing_mail(kit: "AppKit") -> Iterator[str]:
    """Mail that nobody gets."""
    scheme = urlsplit(kit.settings.mail.url).scheme
    if scheme in {"console", "memory"}:
        yield "MAIL_URL is missing" if scheme == "console" else "MAIL_URL is memory://"


CHECKS = [
    Check(
        "AKC007",
        "A variable looks like a setting, and nobody reads it.",
        "Correct its name, which `appkit settings` lists; leave it, where another program set it.",
        find_ignored_variables,
    ),
    Check(
        "AKC008",
        "A plugin is broken, so the app goes on without it, or without a part of it.",
        "Repair or upgrade it, or name it in PLUGINS_DISABLED.",
        find_broken_plugins,
    ),
    Check(
        "AKC101",
        "Whoever knows or guesses the secret can sign in as anybody.",
        "Keep what `appkit secret` prints where only the app can read it.",
        problems_of("AUTH_SECRET_KEYS"),
        deploy=True,
    ),
    Check(
        "AKC102",
        "Cookies would be sent over plain HTTP, where others can read them.",
        "Let them be secure, as they are by default.",
        problems_of("AUTH_COOKIE_SECURE"),
        deploy=True,
    ),
    Check(
        "AKC103",
        "Pages of any website could act for the people who are signed in.",
        "List the origins that may.",
        problems_of("CORS_ORIGINS"),
        deploy=True,
    ),
    Check(
        "AKC104",
        "Answers or log lines would show what only developers should see.",
        "Leave debugging to development.",
        find_debugging,
        deploy=True,
    ),
    Check(
        "AKC105",
        "Links in mails would lead nowhere, and requests from the pages would be refused as another site's.",
        "Set it to the address at which people open the app.",
        find_missing_frontend,
        deploy=True,
    ),
    Check(
        "AKC106",
        "Nobody would get the mail that verifies an address or resets a password.",
        "Set it to your mail server, as in smtp://user:password@mail.example.com:587.",
        find_missing_mail,
        deploy=True,
    ),
]
