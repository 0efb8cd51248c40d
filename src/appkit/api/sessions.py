"""Looks at the routes before the app starts: none may commit after its answer is sent."""

from collections.abc import Iterator
from functools import partial
from inspect import unwrap
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from appkit.api.dependencies import get_session
from appkit.exceptions import AppKitError


def check_sessions(app: FastAPI) -> None:
    """See that every route's session commits before the response.

    FastAPI ends dependencies with `yield` after it has sent the response, unless they say otherwise: the client would
    be told of a success that the database may still refuse.

    Raises:
        AppKitError: When a route would commit too late; it names the route.
    """
    for route in late_commits(app):
        raise AppKitError(
            f"{route} would commit after its answer is sent, when it is too late to say that it "
            'failed. Use `DbSession`, or Depends(get_session, scope="function").'
        )


def late_commits(app: FastAPI) -> Iterator[str]:
    """The routes whose sessions commit after the response, by their methods and paths."""
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant is not None and any(_commits_late(each, app) for each in _walk(dependant)):
            yield f"{', '.join(sorted(route.methods or {'WEBSOCKET'}))} {route.path}"


def _walk(dependant: Dependant) -> Iterator[Dependant]:
    for child in dependant.dependencies:
        yield child
        yield from _walk(child)


def _commits_late(dependant: Dependant, app: FastAPI) -> bool:
    call: Any = dependant.call
    call = app.dependency_overrides.get(call, call)
    while isinstance(call, partial):
        call = call.func
    return unwrap(call) is get_session and dependant.scope != "function"
