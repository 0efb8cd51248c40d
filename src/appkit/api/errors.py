"""Errors: every exception that reaches the API answered as a problem document, and documented as one."""

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from pydantic_core import PydanticSerializationError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from appkit.api.limits import tell_of_refusal
from appkit.api.problems import MEDIA_TYPE, ProblemDetails, describe, describe_status, phrase_of, problem, respond
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
from appkit.repository.errors import translate

_Handler = Callable[[HTTPConnection, Any], Awaitable[Response | None]]

logger: Final = logging.getLogger("appkit.errors")

_SCHEMA: Final = {"$ref": "#/components/schemas/ProblemDetails"}
# What Python, SQLite and asyncpg and psycopg say; PostgreSQL has codes for it (appendix A of its manual).
_UNSTORABLE: Final = re.compile(r"surrogates not allowed|to SQLite INTEGER|out of u?int\d+ range|NUL \(0x00\)")
_UNSTORABLE_STATES: Final = frozenset({"22001", "22003", "22008", "22021", "22P05"})
_REPORTED: Final = "appkit.reported"
_POLICY_VIOLATION: Final = 1008
_SAFE_METHODS: Final = frozenset({"get", "head", "options", "trace"})
_SCHEMES: Final = frozenset({"Cookie", "Bearer"})


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of an app with a problem document (RFC 9457), and say so in its OpenAPI document.

    Needs nothing else of appkit's. Call it before the app serves its first request; handlers that you add
    for classes of your own take precedence.
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
        app.add_exception_handler(exception, _rendered(handler))  # type: ignore[arg-type] # For websockets as well.
    app.add_exception_handler(Exception, _answer_unhandled)
    # Innermost, so that the answer to a bug passes through all middleware and gets its headers, CORS' among them.
    app.user_middleware.append(Middleware(UnhandledErrorMiddleware))
    _document_problems(app)


def errors(*classes: type[APIException]) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with, for its `responses=`.

        @router.post("", status_code=201, responses=errors(EmailTakenException, SignupClosedException))

    Works with `install_error_handlers`, which adds the schema they refer to.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for cls in classes:
        response = responses.setdefault(cls.status_code, _response(phrase_of(cls.status_code).capitalize()))
        response["content"][MEDIA_TYPE]["examples"][cls.__name__] = {
            "summary": (cls.__doc__ or cls.detail).partition("\n")[0],
            "value": describe(cls) | {"instance": "/"},
        }
    return responses


def _rendered(handler: _Handler) -> _Handler:
    """Let plugins answer what the handler knows to answer; it comes first, for it may say that this is a bug."""

    async def answer(connection: HTTPConnection, exc: Any) -> Response | None:
        response = await handler(connection, exc)
        try:
            return await _ask_plugins(connection, exc) or response
        except Exception:
            if connection.app.state.appkit.settings.plugins.strict:
                raise
            logger.exception("A plugin could not render %s.", type(exc).__name__)
            return response

    return answer


async def _ask_plugins(connection: HTTPConnection, exc: Exception) -> Response | None:
    context = getattr(connection.app.state, "appkit", None)
    if context is None or connection.scope["type"] != "http":
        return None
    request = Request(connection.scope)
    response: Response | None = await context.plugins.first("render_exception", exception=exc, request=request)
    return response


async def _answer_api_exception(connection: HTTPConnection, exc: APIException) -> Response | None:
    if exc.status_code >= ServerException.status_code:
        # Turned away because there is too much to do, nobody needs to be told where, which takes the loop its time.
        busy = isinstance(exc, ServiceUnavailableException) and exc.__cause__ is None
        logger.warning("%s: %s", type(exc).__name__, exc.detail, exc_info=None if busy else exc)
    if isinstance(exc, TooManyRequestsException) and exc.news is not None:
        await _tell_of_refusal(connection, exc.news)
    return await _answer(connection, problem(connection, exc))


async def _tell_of_refusal(connection: HTTPConnection, action: str) -> None:
    try:
        await tell_of_refusal(connection, action)
    except Exception:  # The answer is the same.
        logger.exception("Nobody could be told that a limit refused %s.", action)


async def _answer_http_exception(connection: HTTPConnection, exc: HTTPException) -> Response | None:
    """The framework's own errors, and those of apps that raise `HTTPException`."""
    if exc.status_code < 400:  # noqa: PLR2004 - A redirect, or "not modified": no error.
        return Response(status_code=exc.status_code, headers=exc.headers)
    document = describe_status(exc.status_code)
    extra: dict[str, Any] = {}
    if not isinstance(exc.detail, str):
        extra["info"] = exc.detail
    elif exc.detail != phrase_of(exc.status_code):
        document["detail"] = exc.detail
    return await _answer(connection, respond(connection, document, headers=exc.headers, extra=extra))


async def _answer_validation_error(
    connection: HTTPConnection, exc: RequestValidationError | WebSocketRequestValidationError
) -> Response | None:
    invalid = UnprocessableException(extra={"errors": list(field_problems(exc.errors()))})
    return await _answer(connection, problem(connection, invalid))


async def _answer_database_error(connection: HTTPConnection, exc: SQLAlchemyError) -> Response | None:
    """What the database refused, where the session had no chance to say so."""
    if (translated := translate(exc, Base.metadata)) is not None:
        return await _answer_api_exception(connection, translated)
    return await _answer_unstorable(connection, exc)


async def _answer_unstorable(connection: HTTPConnection, exc: Exception) -> Response | None:
    """A value that fits its type, and neither the database nor UTF-8: it came with the request, so it is no bug."""
    cause = exc.driver_exception if isinstance(exc, DBAPIError) else exc
    if getattr(cause, "sqlstate", None) not in _UNSTORABLE_STATES and not _UNSTORABLE.search(str(cause)):
        raise exc
    detail = "One of the values can't be stored: a number is too large, or a text has characters that aren't allowed."
    return await _answer(connection, problem(connection, UnprocessableException(detail)))


async def _answer_unhandled(connection: HTTPConnection, exc: Exception) -> Response:
    """A bug: logged and reported with its traceback, answered without."""
    if _REPORTED not in connection.scope:
        connection.scope[_REPORTED] = True
        logger.error("unhandled_exception", exc_info=exc)
        if (context := getattr(connection.app.state, "appkit", None)) is not None:
            await context.plugins.notify("on_exception", exception=exc)
    try:
        return await _ask_plugins(connection, exc) or problem(connection, ServerException())
    except Exception:
        logger.exception("A plugin could not render %s.", type(exc).__name__)
        return problem(connection, ServerException())


class UnhandledErrorMiddleware:
    """Answers exceptions that no handler knows, and passes them on, so that servers and tests see them too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as exc:
            response = await _answer_unhandled(HTTPConnection(scope), exc)
            if scope["type"] == "http" and not started:
                await response(scope, receive, send)
            raise


async def _answer(connection: HTTPConnection, response: Response) -> Response | None:
    """Hand the response to a request, and to a handshake that can carry one; else close the websocket."""
    if not isinstance(connection, WebSocket):
        return response
    connecting = connection.application_state is WebSocketState.CONNECTING
    if connecting and "websocket.http.response" in connection.scope.get("extensions", {}):
        return response
    await connection.close(_POLICY_VIOLATION)
    return None


def _response(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _SCHEMA, "examples": {}}}}


def _document_problems(app: FastAPI) -> None:
    """Put our schema into the OpenAPI document, in place of FastAPI's for values that are not acceptable."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        document = build()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if "ProblemDetails" not in schemas:
            schema = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs") | {"ProblemDetails": schema}
            paths = document["paths"] | document.get("webhooks", {})
            for path in paths.values():
                for method, operation in path.items():
                    _complete(operation, safe=method in _SAFE_METHODS, kit=hasattr(app.state, "appkit"))
            if "HTTPValidationError" in schemas and "HTTPValidationError" not in str(paths):
                del schemas["HTTPValidationError"], schemas["ValidationError"]
        return document

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend the document.


def _complete(operation: dict[str, Any], *, safe: bool, kit: bool) -> None:
    """Add what no route has to say of itself, for it goes for all of their kind."""
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
