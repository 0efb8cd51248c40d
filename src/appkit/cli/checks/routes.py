"""Checks of the routes and the errors they answer with."""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, get_type_hints

from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.api.dependencies import late_commits
from appkit.cli.checks.source import is_own, place, plain
from appkit.exceptions import APIException
from appkit.plugins.hookspecs import Check

if TYPE_CHECKING:
    from appkit.kit import AppKit

_OWN_CODES = range(1, 50)
_OWN_SERVER_CODES = range(50101, 60000)


def find_threaded_routes(kit: "AppKit") -> Iterator[str]:
    """Routes of the app's own that are no coroutines."""
    for name, endpoint in _routes(kit):
        if not inspect.iscoroutinefunction(endpoint):
            yield f"{name} ({place(endpoint)})"


def find_database_access(kit: "AppKit") -> Iterator[str]:
    """Routes of the app's own that use their session themselves, or build statements."""
    for name, endpoint in _routes(kit):
        if (line := _database_line(endpoint)) is not None:
            yield f"{name} ({place(endpoint, line)})"


def find_late_commits(kit: "AppKit") -> Iterator[str]:
    """Routes that commit after the response."""
    return late_commits(kit.app)


def find_foreign_codes(kit: "AppKit") -> Iterator[str]:
    """Errors of the app's own with codes that are set aside for others."""
    _ = kit.app  # All that it raises is imported by then.
    for code, cls in APIException.registry().items():
        own = code in _OWN_SERVER_CODES if cls.status_code >= 500 else code % 100 in _OWN_CODES  # noqa: PLR2004
        if not own and is_own(getattr(sys.modules.get(cls.__module__), "__file__", None)):
            yield f"{cls.__module__}.{cls.__qualname__} has {code}"


def _routes(kit: "AppKit") -> Iterator[tuple[str, Callable[..., Any]]]:
    for route in iter_route_contexts(kit.app.routes):
        if isinstance(route.original_route, APIRoute):
            endpoint = plain(route.original_route.endpoint)
            if inspect.isfunction(endpoint) and is_own(endpoint.__code__.co_filename):
                yield f"{', '.join(sorted(route.methods or ()))} {route.path}", endpoint


def _database_line(endpoint: Callable[..., Any]) -> int | None:
    """The first line in which a route speaks to the database, rather than hand its session on."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(endpoint)))
    except (OSError, SyntaxError):  # It was made by a program.
        return None
    hints = get_type_hints(endpoint)
    sessions = {name for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, AsyncSession)}
    lines = [call.lineno for call in ast.walk(tree) if isinstance(call, ast.Call) and _asks(call, sessions, endpoint)]
    return endpoint.__code__.co_firstlineno + min(lines) - 1 if lines else None


def _asks(call: ast.Call, sessions: set[str], endpoint: Callable[..., Any]) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Name(id=name)):
            return name in sessions
        case ast.Name(id=name):
            module = getattr(endpoint.__globals__.get(name), "__module__", None) or ""
            return module.partition(".")[0] == "sqlalchemy"
    return False


CHECKS = [
    Check(
        "AKC001",
        "A route is no `async def`, so each request takes one of a few threads, and it can't use a session.",
        "Write `async def`, and `await asyncio.to_thread(…)` for what blocks.",
        find_threaded_routes,
    ),
    Check(
        "AKC002",
        "A route speaks to the database itself, so the rule in it can be used and tested only by way of HTTP.",
        "Move it into a service, which gets the session.",
        find_database_access,
    ),
    Check(
        "AKC003",
        "An error's code is set aside for others: 01 to 49 of a range are an app's, and 50101 and up.",
        "Give it a free one; `appkit errors` lists those that are taken.",
        find_foreign_codes,
    ),
    Check(
        "AKC004",
        "A route commits after its answer is sent, when it is too late to say that it failed.",
        'Use `DbSession`, or `Depends(get_session, scope="function")`.',
        find_late_commits,
    ),
]
