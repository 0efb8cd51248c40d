"""Exception handlers: answer exceptions with problem documents (RFC 9457), and document errors in OpenAPI."""

import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from http.client import responses as phrases
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from pydantic_core import PydanticSerializationError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.status import WS_1008_POLICY_VIOLATION
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from appkit.api.cookies import cookie_names
from appkit.api.csrf import SAFE_METHODS
from appkit.api.dependencies import find_app
from appkit.api.problems import MEDIA_TYPE, ProblemDetails, describe, describe_status, phrase_of, problem, respond
from appkit.api.rate_limits import emit_rate_limited
from appkit.api.validation import field_problems
from appkit.exceptions import (
    APIException,
    BadRequestException,
    CrossSiteRequestException,
    PayloadTooLargeException,
    ServerException,
    ServiceUnavailableException,
    SessionRevokedException,
    TokenExpiredException,
    TooManyRequestsException,
    UnauthorizedException,
    UnprocessableException,
)
from appkit.repository.base import Base
from appkit.repository.context import AppContext
from appkit.repository.errors import translate

_Handler = Callable[[HTTPConnection, Any], Awaitable[Response | None]]

logger: Final = logging.getLogger("appkit.errors")

_SCHEMA: Final = {"$ref": "#/components/schemas/ProblemDetails"}
# Messages of Python, SQLite, asyncpg and psycopg; PostgreSQL has error codes (appendix A of its manual).
_UNSTORABLE: Final = re.compile(r"surrogates not allowed|to SQLite INTEGER|out of u?int\d+ range|NUL \(0x00\)")
_UNSTORABLE_STATES: Final = frozenset({"22001", "22003", "22008", "22021", "22P05"})
_REPORTED: Final = "appkit.reported"
_SCHEMES: Final = frozenset({"Cookie", "Bearer"})


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of an app with a problem document (RFC 9457), and add the errors to the OpenAPI document.

    The app needs no kit. Call this function before the app serves its first request. Your own handlers replace
    appkit's handlers of the same exception class.
    """
    handlers: dict[type[Exception], _Handler] = {
        APIException: _answer_api_exception,
        HTTPException: _answer_http_exception,
        RequestValidationError: _answer_validation_error,
        WebSocketRequestValidationError: _answer_validation_error,
        SQLAlchemyError: _answer_database_error,
        OverflowError: _answer_unstorable,
        PydanticSerializationError: _answer_unstorable,
        UnicodeEncodeError: _answer_unstorable,
    }
    for exception, handler in handlers.items():
        app.add_exception_handler(exception, _rendered(handler))  # type: ignore[arg-type] # The handler also takes a WebSocket.
    app.add_exception_handler(Exception, _answer_unhandled)
    # Innermost: the response to an unhandled exception passes through all middleware, and gets CORS headers too.
    app.user_middleware.append(Middleware(UnhandledErrorMiddleware))
    _document_problems(app)


def errors(*classes: type[APIException]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI documentation of a route's errors, for its `responses=`.

        @router.post("", status_code=201, responses=errors(EmailTakenException, SignupClosedException))

    Leave out the errors that appkit adds by itself: the 401s of signed-in routes, the 403 of the CSRF protection, and
    the 413 and 422 of routes with a body.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for cls in classes:
        content = {MEDIA_TYPE: {"schema": _SCHEMA, "examples": {}}}
        phrase = phrase_of(cls.status_code)
        response = responses.setdefault(cls.status_code, {"description": phrase, "content": content})
        response["content"][MEDIA_TYPE]["examples"][cls.__name__] = {
            "summary": (cls.__doc__ or cls.detail).partition("\n")[0],
            "value": describe(cls) | {"instance": "/"},
        }
    return responses


def _rendered(handler: _Handler) -> _Handler:
    """Let plugins replace the handler's response. The handler runs first: it re-raises an exception that is a bug."""

    async def answer(connection: HTTPConnection, exc: Any) -> Response | None:
        response = await handler(connection, exc)
        return await _ask_plugins(connection, exc) or response

    return answer


async def _ask_plugins(connection: HTTPConnection, exc: Exception, *, bug: bool = False) -> Response | None:
    context = find_app(connection)
    if context is None or connection.scope["type"] != "http":
        return None
    request = Request(connection.scope)
    try:
        response: Response | None = await context.plugins.first("render_exception", exception=exc, request=request)
    except Exception:
        if context.settings.plugins.strict and not bug:  # If this is the handler for bugs, no other one would answer.
            raise
        logger.exception("A plugin failed to render %s.", type(exc).__name__)
        return None
    return response


async def _answer_api_exception(connection: HTTPConnection, exc: APIException) -> Response | None:
    if exc.status_code >= ServerException.status_code:
        # Without the traceback under overload, because formatting it blocks the event loop.
        busy = isinstance(exc, ServiceUnavailableException) and exc.__cause__ is None
        logger.warning("%s: %s", type(exc).__name__, exc.detail, exc_info=None if busy else exc)
    if isinstance(exc, TooManyRequestsException) and exc.report_as is not None:
        try:
            await emit_rate_limited(connection, exc.report_as)
        except Exception:  # The client still gets its 429.
            logger.exception("Could not emit RateLimited for %s.", exc.report_as)
    return await _answer(connection, problem(connection, exc))


async def _answer_http_exception(connection: HTTPConnection, exc: HTTPException) -> Response | None:
    if exc.status_code < HTTPStatus.BAD_REQUEST:  # A redirect or "not modified" is no error.
        return Response(status_code=exc.status_code, headers=exc.headers)
    document = describe_status(exc.status_code)
    extra: dict[str, Any] = {}
    if not isinstance(exc.detail, str):
        extra["info"] = exc.detail
    elif exc.detail != phrases.get(exc.status_code):  # Starlette fills in Python's phrase.
        document["detail"] = exc.detail
    return await _answer(connection, respond(connection, document, headers=exc.headers, extra=extra))


async def _answer_validation_error(
    connection: HTTPConnection, exc: RequestValidationError | WebSocketRequestValidationError
) -> Response | None:
    invalid = UnprocessableException(extra={"errors": list(field_problems(exc.errors()))})
    return await _answer(connection, problem(connection, invalid))


async def _answer_database_error(connection: HTTPConnection, exc: SQLAlchemyError) -> Response | None:
    """Answer database errors that the database session didn't translate itself."""
    if (translated := translate(exc, Base.metadata)) is not None:
        return await _answer_api_exception(connection, translated)
    return await _answer_unstorable(connection, exc)


async def _answer_unstorable(connection: HTTPConnection, exc: Exception) -> Response | None:
    """Refuse values that the database or UTF-8 can't store. They come from the client, so this is no bug."""
    cause = exc.driver_exception if isinstance(exc, DBAPIError) else exc
    if getattr(cause, "sqlstate", None) not in _UNSTORABLE_STATES and not _UNSTORABLE.search(str(cause)):
        raise exc
    detail = "One of the values can't be stored: a number is too large, or a text has characters that aren't allowed."
    return await _answer(connection, problem(connection, UnprocessableException(detail)))


async def _answer_unhandled(connection: HTTPConnection, exc: Exception) -> Response:
    """Log and report a bug with its traceback. The response doesn't describe the bug."""
    if _REPORTED not in connection.scope:
        connection.scope[_REPORTED] = True
        logger.error("unhandled_exception", exc_info=exc)
        if (context := find_app(connection)) is not None:
            await context.plugins.notify("on_exception", exception=exc)
    return await _ask_plugins(connection, exc, bug=True) or problem(connection, ServerException())


class UnhandledErrorMiddleware:
    """Answers exceptions that have no handler, and raises them again for the server and for tests."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, note_start)
        except Exception as exc:
            response = await _answer_unhandled(HTTPConnection(scope), exc)
            if scope["type"] == "http" and not started:
                await response(scope, receive, send)
            raise


async def _answer(connection: HTTPConnection, response: Response) -> Response | None:
    """Return the response. If the connection is a websocket that can't send it, close the websocket instead."""
    if not isinstance(connection, WebSocket):
        return response
    connecting = connection.application_state is WebSocketState.CONNECTING
    if connecting and "websocket.http.response" in connection.scope.get("extensions", {}):
        return response
    await connection.close(WS_1008_POLICY_VIOLATION)
    return None


def _document_problems(app: FastAPI) -> None:
    """Add the errors of each route and the name of the access cookie to the OpenAPI document."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        document = build()
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        if "ProblemDetails" not in schemas:
            context: AppContext | None = getattr(app.state, "appkit", None)
            schema = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs") | {"ProblemDetails": schema}
            paths = document["paths"] | document.get("webhooks", {})
            for path in paths.values():
                for method, operation in path.items():
                    _complete(operation, safe=method.upper() in SAFE_METHODS, kit=context is not None)
            if "HTTPValidationError" in schemas and "HTTPValidationError" not in str(paths):
                del schemas["HTTPValidationError"], schemas["ValidationError"]
            if context is not None and "Cookie" in components.get("securitySchemes", {}):
                components["securitySchemes"]["Cookie"]["name"] = cookie_names(context.settings).access
        return document

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend the document.


def _complete(operation: dict[str, Any], *, safe: bool, kit: bool) -> None:
    """Add the errors that a route need not list: its 401s, the 403 of CSRF, and the errors of a body."""
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        responses["422"] = errors(UnprocessableException)[422]
    found: list[type[APIException]] = []
    if "requestBody" in operation:
        found += [BadRequestException, PayloadTooLargeException] if kit else [BadRequestException]
    if any(scheme in _SCHEMES for needed in operation.get("security", ()) for scheme in needed):
        found += [UnauthorizedException, TokenExpiredException, SessionRevokedException]
    if kit and not safe:
        found.append(CrossSiteRequestException)
    for status, response in errors(*found).items():
        content = responses.setdefault(str(status), response).get("content", {}).get(MEDIA_TYPE, {})
        for name, example in response["content"][MEDIA_TYPE]["examples"].items():
            content.get("examples", {}).setdefault(name, example)
