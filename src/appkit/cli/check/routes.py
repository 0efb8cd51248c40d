"""Checks of `appkit check` on the parts of a built app: routes, error codes and plugins."""

import ast
import inspect
import os
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, get_type_hints

from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.api.dependencies import late_commits
from appkit.exceptions import APIException
from appkit.kit import AppKit, Check

_OTHERS = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parents[2]))
_OWN_CODES = range(1, 50)
_OWN_SERVER_CODES = range(50101, 60000)


def find_threaded_routes(kit: "AppKit") -> Iterator[str]:
    """Find the app's routes that are not `async def`."""
    for name, endpoint in _routes(kit):
        if not inspect.iscoroutinefunction(endpoint):
            yield f"{name} ({_place(endpoint)})"


def find_database_access(kit: "AppKit") -> Iterator[str]:
    """Find the app's routes that query the database themselves."""
    for name, endpoint in _routes(kit):
        if (line := _database_line(endpoint)) is not None:
            yield f"{name} ({_place(endpoint, line)})"


def find_foreign_codes(kit: "AppKit") -> Iterator[str]:
    """Find errors of the app with codes that are reserved for appkit and plugins."""
    _ = kit.app  # Building the app imports its errors.
    for code, cls in APIException.registry().items():
        server = cls.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
        own = code in _OWN_SERVER_CODES if server else code % 100 in _OWN_CODES
        if not own and _is_own(getattr(sys.modules.get(cls.__module__), "__file__", None)):
            yield f"{cls.__module__}.{cls.__qualname__} has {code}"


def find_broken_plugins(kit: "AppKit") -> list[str]:
    """Find plugins that could not be loaded, or failed while the app was built."""
    _ = kit.app, kit.broker
    return [f"{name}: {type(exc).__name__}: {exc}" for name, exc in kit.plugins.failed.items()]


def _routes(kit: "AppKit") -> Iterator[tuple[str, Callable[..., Any]]]:
    for route in iter_route_contexts(kit.app.routes):
        if isinstance(route.original_route, APIRoute):
            endpoint = _plain(route.original_route.endpoint)
            if inspect.isfunction(endpoint) and _is_own(endpoint.__code__.co_filename):
                yield f"{', '.join(sorted(route.methods or ()))} {route.path}", endpoint


def _database_line(endpoint: Callable[..., Any]) -> int | None:
    """The first line in which a route uses its database session or builds a statement, if there is one."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(endpoint)))
    except (OSError, SyntaxError):  # Generated code has no source.
        return None
    hints = get_type_hints(endpoint)
    sessions = {name for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, AsyncSession)}
    lines = [
        call.lineno
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and _uses_database(call, sessions, endpoint)
    ]
    return endpoint.__code__.co_firstlineno + min(lines) - 1 if lines else None


def _uses_database(call: ast.Call, sessions: set[str], endpoint: Callable[..., Any]) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Name(id=name)):
            return name in sessions
        case ast.Name(id=name):
            module = getattr(endpoint.__globals__.get(name), "__module__", None) or ""
            return module.partition(".")[0] == "sqlalchemy"
    return False


def _plain(function: Any) -> Callable[..., Any]:
    """The function inside its partials and decorators."""
    while isinstance(function, partial):
        function = function.func
    unwrapped: Callable[..., Any] = inspect.unwrap(function)
    return unwrapped


def _is_own(file: str | None) -> bool:
    """Whether a file belongs to the app, and not to Python, appkit or an installed package."""
    return file is not None and not file.startswith(_OTHERS)


def _place(function: Callable[..., Any], line: int | None = None) -> str:
    """The file and line of a function, as in `api/posts.py:12`."""
    code = function.__code__
    return f"{os.path.relpath(code.co_filename)}:{line or code.co_firstlineno}"


CHECKS = [
    Check(
        "AKC001",
        "A route is not `async def`. Each request occupies a thread, and the route can't use a database session.",
        "Write `async def`. Call blocking functions with `await asyncio.to_thread(…)`.",
        find_threaded_routes,
    ),
    Check(
        "AKC002",
        "A route queries the database, so the query can be used and tested only through HTTP.",
        "Move the query into a service, and pass the session to the service.",
        find_database_access,
    ),
    Check(
        "AKC003",
        "An error has a reserved code. An app's codes are 01 to 49 of each range, and 50101 to 59999.",
        "Give the error a free code. `appkit errors` lists the codes in use.",
        find_foreign_codes,
    ),
    Check(
        "AKC004",
        "A route commits after its response was sent, so the response can't report a failed commit.",
        'Use `DbSession`, or `Depends(get_session, scope="function")`.',
        lambda kit: late_commits(kit.app),
    ),
    Check(
        "AKC008",
        "A plugin is broken. The app runs without the plugin, or without a part of it.",
        "Fix or upgrade the plugin, or add its name to PLUGINS_DISABLED.",
        find_broken_plugins,
    ),
]
