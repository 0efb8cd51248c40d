"""Problem documents: the JSON body of every error response (RFC 9457)."""

import json
import re
from collections.abc import Iterable, Mapping
from http.client import responses as phrases
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection
from starlette.responses import Response

from appkit.exceptions import RANGES, APIException, ServerException, ServiceUnavailableException, UnauthorizedException

PAGES: Final = "https://fastapi-appkit.readthedocs.io/reference/errors/"
"""The docs page with appkit's own errors; a problem's `type` is this URL with `#` and the error's code."""

MEDIA_TYPE: Final = "application/problem+json"
_RENAMED_PHRASES: Final = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


class FieldProblem(BaseModel):
    """What is wrong with one value of a request."""

    field: str = Field(description="Where the value is, as in `address.city`; empty for the request as a whole.")
    message: str = Field(description="A sentence for the person who gave the value.")
    type: str = Field(description="What kind of mistake it is, for programs.")


class ProblemDetails(BaseModel):
    """Why a request was not answered as it was meant to be (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="The page about this error, or `about:blank` for an app's own (RFC 9457, 4.2.1).")
    title: str = Field(description="The error in a few words, the same each time.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="A sentence about this occurrence.")
    instance: str = Field(description="The path that was asked for.")
    internal_code: int = Field(description="The error's number, for programs.")
    request_id: str | None = Field(default=None, description="What to name when you ask for help.")
    errors: list[FieldProblem] | None = Field(default=None, description="The values that are not acceptable.")


class ProblemResponse(Response):
    """A response with a problem document."""

    media_type = MEDIA_TYPE

    def render(self, content: Mapping[str, Any]) -> bytes:
        """JSON in UTF-8. Lone surrogates, which are possible in JSON but not in UTF-8, become `?`."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def problem(connection: HTTPConnection, exc: APIException) -> ProblemResponse:
    """The response to a request that raised `exc`."""
    document = describe(type(exc)) | {"detail": exc.detail}
    return respond(connection, document, headers=exc.headers, extra=exc.extra)


def respond(
    connection: HTTPConnection,
    document: Mapping[str, Any],
    *,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] = MappingProxyType({}),
) -> ProblemResponse:
    """A response with a problem document about this request; `extra` adds members but replaces none."""
    scope = connection.scope
    content = {**extra, **document, "instance": scope["path"]}
    if request_id := scope.get("state", {}).get("request_id"):
        content["request_id"] = request_id
    response = ProblemResponse(content, status_code=document["status"], headers=headers)
    if response.status_code == UnauthorizedException.status_code:
        response.headers.setdefault("WWW-Authenticate", "Bearer")  # RFC 9110, 15.5.2: a 401 must name one.
    return response


def describe(cls: type[APIException]) -> dict[str, Any]:
    """The members that all problem documents of an exception class share."""
    if cls is ServerException:
        return _document(cls.status_code, cls.internal_code, "Server error", cls.detail)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", cls.__name__.removesuffix("Exception"))
    return _document(cls.status_code, cls.internal_code, words.capitalize(), cls.detail)


def describe_status(status: int) -> dict[str, Any]:
    """The same members for an `HTTPException`, which has a status but may have no exception class of appkit."""
    if status in _BASES:
        return describe(_BASES[status])
    code = 50000 if status >= ServerException.status_code else 40000
    phrase = phrase_of(status)
    return _document(status, code, phrase.capitalize(), f"{phrase.capitalize()}.")


def phrase_of(status: int) -> str:
    """The phrase of a status in RFC 9110, such as "Not Found"; Python before 3.13 has older phrases for four."""
    return _RENAMED_PHRASES.get(status) or phrases.get(status, "Error")


def _document(status: int, code: int, title: str, detail: str) -> dict[str, Any]:
    return {
        "type": f"{PAGES}#{code}" if _is_ours(code) else "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "internal_code": code,
    }


def _is_ours(code: int) -> bool:
    return APIException.registry()[code].__module__ == APIException.__module__


def _base_classes() -> Iterable[tuple[int, type[APIException]]]:
    registry = APIException.registry()
    yield from ((status, registry[codes[0]]) for status, codes in RANGES.items())
    yield 500, registry[50000]
    yield 503, ServiceUnavailableException


_BASES: Final = MappingProxyType(dict(_base_classes()))
