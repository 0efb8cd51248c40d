"""Problem documents: the JSON body of every error response (RFC 9457)."""

import json
import re
from collections.abc import Mapping
from http.client import responses as phrases
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection
from starlette.responses import Response

from appkit.exceptions import RANGES, APIException, ServerException, ServiceUnavailableException, UnauthorizedException

PAGES: Final = "https://fastapi-appkit.readthedocs.io/reference/errors/"
"""The docs page with appkit's errors. The `type` of such an error is this URL, `#` and the error's code."""

MEDIA_TYPE: Final = "application/problem+json"
_RENAMED_PHRASES: Final = {  # Python before 3.13 has older phrases.
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


class FieldProblem(BaseModel):
    """One invalid value of a request."""

    field: str = Field(description="The path of the value, such as `address.city`. Empty for the whole request.")
    message: str = Field(description="A sentence for the user who entered the value.")
    type: str = Field(description="The kind of mistake, for programs.")


class ProblemDetails(BaseModel):
    """A problem document: the body of an error response (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="The docs page of an appkit error, or `about:blank` for other errors.")
    title: str = Field(description="The kind of error, in a few words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="A sentence for the user.")
    instance: str = Field(description="The path of the request.")
    internal_code: int = Field(description="The error's number, for programs.")
    request_id: str | None = Field(default=None, description="The request's id, to quote to the support.")
    errors: list[FieldProblem] | None = Field(default=None, description="The invalid values.")


class ProblemResponse(Response):
    """A response with a problem document."""

    media_type = MEDIA_TYPE

    def render(self, content: Mapping[str, Any]) -> bytes:
        """Write JSON in UTF-8. Lone surrogates become `?`, because UTF-8 can't encode them."""
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
    """A response with a problem document. `extra` has more members, which don't replace those of `document`."""
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
    name = "ServerError" if cls is ServerException else cls.__name__.removesuffix("Exception")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return _document(cls.status_code, cls.internal_code, words.capitalize(), cls.detail)


def describe_status(status: int) -> dict[str, Any]:
    """The members that all problem documents of an `HTTPException` with this status share."""
    if status in _BASES:
        return describe(_BASES[status])
    code = 50000 if status >= ServerException.status_code else 40000
    phrase = phrase_of(status)
    return _document(status, code, phrase, f"{phrase}.")


def phrase_of(status: int) -> str:
    """The phrase of a status in RFC 9110, such as "Not found"."""
    return (_RENAMED_PHRASES.get(status) or phrases.get(status, "Error")).capitalize()


def _document(status: int, code: int, title: str, detail: str) -> dict[str, Any]:
    ours = APIException.registry()[code].__module__ == APIException.__module__
    return {
        "type": f"{PAGES}#{code}" if ours else "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "internal_code": code,
    }


_BASES: Final = {
    **{status: APIException.registry()[codes[0]] for status, codes in RANGES.items()},
    ServerException.status_code: ServerException,
    ServiceUnavailableException.status_code: ServiceUnavailableException,
}
