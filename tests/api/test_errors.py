"""Every error is answered with a problem document, which says what people need and nothing that they sent."""

import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Query, WebSocket
from httpx2 import AsyncClient
from pydantic import AfterValidator, BaseModel, EmailStr, Field
from pydantic_core import PydanticCustomError
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from appkit.api.dependencies import CurrentUser
from appkit.api.errors import errors, install_error_handlers
from appkit.api.problems import ProblemDetails, describe
from appkit.exceptions import (
    APIException,
    ConflictException,
    EmailTakenException,
    ForbiddenException,
    InvalidCredentialsException,
    PayloadTooLargeException,
    ServiceUnavailableException,
    SignupClosedException,
    StaleVersionException,
    TooManyRequestsException,
    UnauthorizedException,
    UnprocessableException,
)
from appkit.kit import AppKit

Serve = Callable[..., AsyncClient]


class TeapotBrokenException(ConflictException):
    """The teapot has a crack."""

    internal_code = 40949
    detail = "This teapot leaks."


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)
    return app


def raises(app: FastAPI, exc: Exception, path: str = "/it") -> None:
    async def endpoint() -> None:
        raise exc

    app.add_api_route(path, endpoint)


async def test_exception_becomes_a_problem_document(app: FastAPI, serve: Serve):
    raises(app, TeapotBrokenException(extra={"crack": "lid"}, headers={"X-Tea": "green"}))
    answer = await serve(app).get("/it?q=secret")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-tea"] == "green"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Teapot broken",
        "status": 409,
        "detail": "This teapot leaks.",
        "instance": "/it",
        "internal_code": 40949,
        "crack": "lid",
    }


async def test_detail_of_an_instance_replaces_that_of_the_class(app: FastAPI, serve: Serve):
    raises(app, TeapotBrokenException("The lid is broken."))
    assert (await serve(app).get("/it")).json()["detail"] == "The lid is broken."


async def test_extra_members_replace_no_standard_one(app: FastAPI, serve: Serve):
    raises(app, TeapotBrokenException(extra={"status": 200, "instance": "/else"}))
    body = (await serve(app).get("/it")).json()
    assert (body["status"], body["instance"]) == (409, "/it")


async def test_retry_after_is_kept(app: FastAPI, serve: Serve):
    raises(app, TooManyRequestsException(retry_after=7))
    assert (await serve(app).get("/it")).headers["retry-after"] == "7"


@pytest.mark.parametrize("exc", [UnauthorizedException(), HTTPException(401)])
async def test_401_has_www_authenticate(app: FastAPI, serve: Serve, exc: Exception):
    raises(app, exc)
    assert (await serve(app).get("/it")).headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("exc", "status", "code", "title", "detail"),
    [
        (HTTPException(404), 404, 40400, "Not found", "There is nothing here."),
        (HTTPException(403, "Not yours."), 403, 40200, "Forbidden", "Not yours."),
        (HTTPException(503), 503, 50050, "Service unavailable", "We are busy. Try again in a moment."),
        (HTTPException(502), 502, 50000, "Bad gateway", "Bad gateway."),
        (HTTPException(415), 415, 40000, "Unsupported media type", "Unsupported media type."),
        (HTTPException(406, "Only tea."), 406, 40000, "Not acceptable", "Only tea."),
        (HTTPException(416), 416, 40000, "Range not satisfiable", "Range not satisfiable."),
        (HTTPException(499, "Gone."), 499, 40000, "Error", "Gone."),
    ],
)
async def test_http_exception_gets_the_code_of_its_status(
    app: FastAPI, serve: Serve, exc: HTTPException, status: int, code: int, title: str, detail: str
):
    raises(app, exc)
    answer = await serve(app).get("/it")
    body = answer.json()
    assert answer.status_code == body["status"] == status
    assert (body["internal_code"], body["title"], body["detail"]) == (code, title, detail)


async def test_http_exception_keeps_its_headers_and_a_detail_that_is_no_text(app: FastAPI, serve: Serve):
    raises(app, HTTPException(400, {"why": "tea"}, headers={"X-Tea": "green"}))
    answer = await serve(app).get("/it")
    assert answer.headers["x-tea"] == "green"
    assert answer.json()["info"] == {"why": "tea"}
    assert answer.json()["detail"] == "The request could not be understood."


async def test_http_exception_that_is_no_error_has_no_body(app: FastAPI, serve: Serve):
    raises(app, HTTPException(304, headers={"ETag": '"1"'}))
    answer = await serve(app).get("/it")
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')


async def test_unknown_path_and_wrong_method_are_problems(app: FastAPI, serve: Serve):
    app.add_api_route("/it", lambda: None, methods=["POST"])
    missing, wrong = await serve(app).get("/nope"), await serve(app).get("/it")
    assert (missing.status_code, missing.json()["internal_code"]) == (404, 40400)
    assert (wrong.status_code, wrong.json()["internal_code"], wrong.headers["allow"]) == (405, 40000, "POST")


# Values that are not acceptable


class Address(BaseModel):
    city: Annotated[str, Field(min_length=2)]


def no_tea(value: str) -> str:
    if value == "tea":
        raise ValueError("No tea here.")
    if value == "tee":
        raise PydanticCustomError("misspelt", "Spell it «tea».")
    assert value != "cha", "Not even that."
    return value


class Person(BaseModel, extra="forbid"):
    email: EmailStr
    password: Annotated[str, Field(min_length=8, max_length=20)]
    address: Address | None = None
    tags: Annotated[list[int], Field(max_length=1)] = []
    colour: Literal["red", "blue"] = "red"
    drink: Annotated[str, AfterValidator(no_tea)] = ""


@pytest.fixture
def people(app: FastAPI) -> FastAPI:
    @app.post("/people")
    async def add_person(person: Person) -> str:
        return person.email

    @app.get("/people/{number}")
    async def show_person(number: int, size: Annotated[int, Query(le=10)] = 1) -> str:
        return "somebody"

    return app


GOOD: dict[str, Any] = {"email": "ann@example.com", "password": "correct horse"}


@pytest.mark.parametrize(
    ("change", "field", "message", "kind"),
    [
        ({"email": "ann"}, "email", "This is not an e-mail address.", "value_error"),
        ({"password": "short"}, "password", "Use at least 8 characters.", "string_too_short"),
        ({"password": "x" * 21}, "password", "Use at most 20 characters.", "string_too_long"),
        ({"password": 5}, "password", "This must be text.", "string_type"),
        ({"address": {}}, "address.city", "This is required.", "missing"),
        ({"address": 5}, "address", "This must be an object.", "model_attributes_type"),
        ({"tags": ["x"]}, "tags.0", "This must be a whole number.", "int_parsing"),
        ({"tags": [1, 2]}, "tags", "Give at most 1 item.", "too_long"),
        ({"colour": "green"}, "colour", "Choose one of 'red' or 'blue'.", "literal_error"),
        ({"drink": "tea"}, "drink", "No tea here.", "value_error"),
        ({"drink": "tee"}, "drink", "Spell it «tea».", "misspelt"),
        ({"drink": "cha"}, "drink", "This is not acceptable.", "assertion_error"),
        ({"is_superuser": True}, "is_superuser", "This is not expected here.", "extra_forbidden"),
    ],
)
async def test_validation_errors_have_plain_messages(
    people: FastAPI, serve: Serve, change: dict[str, Any], field: str, message: str, kind: str
):
    answer = await serve(people).post("/people", json=GOOD | change)
    assert answer.status_code == 422
    assert answer.json()["internal_code"] == 42200
    assert answer.json()["errors"] == [{"field": field, "message": message, "type": kind}]


async def test_values_in_paths_and_queries_are_named_by_their_parameter(people: FastAPI, serve: Serve):
    answer = await serve(people).get("/people/seven", params={"size": 11})
    assert answer.json()["errors"] == [
        {"field": "number", "message": "This must be a whole number.", "type": "int_parsing"},
        {"field": "size", "message": "This must be at most 10.", "type": "less_than_equal"},
    ]


@pytest.mark.parametrize(("body", "message"), [(b'{"em', "This is not valid JSON."), (b"", "This is required.")])
async def test_body_as_a_whole_has_an_empty_field(people: FastAPI, serve: Serve, body: bytes, message: str):
    answer = await serve(people).post("/people", content=body, headers={"Content-Type": "application/json"})
    assert [(error["field"], error["message"]) for error in answer.json()["errors"]] == [("", message)]


@pytest.mark.parametrize(
    "body",
    [
        '{"password": "hunter2-hunter2"}',
        '{"email": "hunter2-hunter2", "password": "hunter2-hunter2"}',
        '{"email": ["hunter2-hunter2"], "password": {"a": "hunter2-hunter2"}}',
        '["hunter2-hunter2"]',
        '"hunter2-hunter2"',
        '{"email": "a@example.com", "password": "hunter2-hunter2"',
        '{"email": "a@example.com", "password": "hunter2-hunter2", "colour": "hunter2-hunter2"}',
    ],
)
async def test_submitted_values_are_neither_answered_nor_logged(
    people: FastAPI, serve: Serve, caplog: pytest.LogCaptureFixture, body: str
):
    caplog.set_level(logging.DEBUG)
    answer = await serve(people).post("/people", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "hunter2" not in answer.text + caplog.text


# Text that can't be stored


@pytest.mark.parametrize("name", ["email", "password", "drink", "\\udfff"])
async def test_lone_surrogate_is_422(people: FastAPI, serve: Serve, name: str):
    fields = GOOD | {"drink": ""}
    body = "{" + ",".join(f'"{key}": "{value}"' for key, value in fields.items() if key != name)
    body += f', "{name}": "\\ud800\\ud800"}}'
    answer = await serve(people).post("/people", content=body, headers={"Content-Type": "application/json"})
    if name == "drink":  # Plain text with no rules: the route may have it.
        assert answer.status_code == 200
    else:
        assert answer.status_code == 422
        assert answer.json()["errors"]


@pytest.mark.parametrize("model", [True, False])
async def test_lone_surrogate_that_a_route_echoes_or_encodes_is_422(app: FastAPI, serve: Serve, *, model: bool):
    class Echo(BaseModel):
        text: str

    @app.post("/echo")
    async def echo(payload: Echo) -> Echo:
        if not model:
            payload.text.encode()
        return payload

    answer = await serve(app).post(
        "/echo", content=b'{"text": "\\ud800"}', headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("One of the values can't be stored")


async def test_unicode_error_of_another_codec_is_a_bug_of_the_app(app: FastAPI, serve: Serve):
    raises(app, UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range(128)"))
    assert (await serve(app).get("/it")).status_code == 500


# Bugs and broken databases


class Watcher:
    def __init__(self) -> None:
        self.seen: list[Exception] = []

    async def notify(self, hook: str, **kwargs: Any) -> None:
        assert hook == "on_exception"
        self.seen.append(kwargs["exception"])

    async def first(self, hook: str, **_: Any) -> None:
        assert hook == "render_exception"


@pytest.fixture
def watcher(app: FastAPI) -> Watcher:
    watcher = Watcher()
    app.state.appkit = SimpleNamespace(plugins=watcher)
    return watcher


async def test_bug_is_answered_without_internals_logged_and_reported_once(
    app: FastAPI, serve: Serve, watcher: Watcher, caplog: pytest.LogCaptureFixture
):
    bug = RuntimeError("the secret recipe")
    raises(app, bug)
    answer = await serve(app).get("/it")
    assert (answer.status_code, answer.json()["internal_code"]) == (500, 50000)
    assert "recipe" not in answer.text
    assert watcher.seen == [bug]
    logged = [record for record in caplog.records if record.name == "appkit.errors"]
    assert len(logged) == 1
    assert logged[0].exc_info is not None


async def test_bug_is_passed_on_to_server_and_tests(app: FastAPI):
    raises(app, RuntimeError("boom"))
    with pytest.raises(RuntimeError, match="boom"):
        TestClient(app).get("/it")


async def test_bug_in_middleware_is_answered_and_reported(app: FastAPI, serve: Serve, watcher: Watcher):
    class Broken:
        def __init__(self, app: object) -> None: ...

        async def __call__(self, *_: object) -> None:
            raise RuntimeError

    app.add_middleware(Broken)
    answer = await serve(app).get("/it")
    assert (answer.status_code, answer.json()["internal_code"]) == (500, 50000)
    assert len(watcher.seen) == 1


async def test_bug_after_the_answer_has_begun_is_reported(app: FastAPI, watcher: Watcher):
    def chunks() -> Iterator[bytes]:
        yield b"1"
        raise RuntimeError("too late")

    app.add_api_route("/it", lambda: StreamingResponse(chunks()))
    with pytest.raises(RuntimeError, match="too late"):
        TestClient(app).get("/it")
    assert len(watcher.seen) == 1


async def test_answer_of_our_own_5xx_is_logged_and_not_reported(
    app: FastAPI, serve: Serve, watcher: Watcher, caplog: pytest.LogCaptureFixture
):
    raises(app, ServiceUnavailableException())
    assert (await serve(app).get("/it")).status_code == 503
    assert watcher.seen == []
    assert "ServiceUnavailableException" in caplog.text


async def test_database_errors_are_translated_if_possible(app: FastAPI, serve: Serve, monkeypatch: pytest.MonkeyPatch):
    engine = create_engine("sqlite://")

    @app.get("/{statement}")
    async def run(statement: str) -> None:
        with engine.connect() as connection:
            connection.execute(text(statement))

    def translate(exc: SQLAlchemyError, metadata: object) -> APIException | None:
        return StaleVersionException() if "nowhere" in str(exc) else None

    monkeypatch.setattr("appkit.api.errors.translate", translate)
    known, unknown = await serve(app).get("/SELECT 1 FROM nowhere"), await serve(app).get("/SELEKT 1")
    engine.dispose()
    assert (known.status_code, known.json()["internal_code"]) == (409, 40952)
    assert (unknown.status_code, unknown.json()["internal_code"]) == (500, 50000)
    assert "SELEKT" not in unknown.json()["detail"]


# Websockets


@pytest.fixture
def sockets(app: FastAPI) -> FastAPI:
    @app.websocket("/refuses")
    async def refuse(socket: WebSocket) -> None:
        raise ForbiddenException

    @app.websocket("/ends")
    async def end(socket: WebSocket) -> None:
        await socket.accept()
        raise ForbiddenException

    @app.websocket("/breaks")
    async def break_(socket: WebSocket, number: int) -> None:
        raise RuntimeError("boom")

    return app


def test_websocket_handshake_is_refused_with_a_problem(sockets: FastAPI):
    with pytest.raises(WebSocketDenialResponse) as refused, TestClient(sockets).websocket_connect("/refuses"):
        pass
    assert refused.value.status_code == 403
    assert refused.value.json()["internal_code"] == 40200


def test_open_websocket_is_closed(sockets: FastAPI):
    with (
        pytest.raises(WebSocketDisconnect) as closed,
        TestClient(sockets).websocket_connect("/ends") as socket,
    ):
        socket.receive_text()
    assert closed.value.code == 1008


def test_websocket_bug_is_reported(sockets: FastAPI, watcher: Watcher):
    with pytest.raises(RuntimeError, match="boom"), TestClient(sockets).websocket_connect("/breaks?number=1"):
        pass
    assert len(watcher.seen) == 1


def test_websocket_parameters_that_are_not_acceptable_are_refused(sockets: FastAPI):
    with pytest.raises(WebSocketDenialResponse) as refused, TestClient(sockets).websocket_connect("/breaks?number=x"):
        pass
    assert refused.value.json()["errors"][0]["field"] == "number"


# OpenAPI


def test_openapi_documents_each_error_of_a_route(app: FastAPI):
    @app.post("/people", responses=errors(EmailTakenException, TeapotBrokenException, SignupClosedException))
    async def add_person(person: Person) -> str:
        return person.email

    document = app.openapi()
    responses = document["paths"]["/people"]["post"]["responses"]
    assert set(responses) == {"200", "400", "403", "409", "422"}
    content = responses["409"]["content"]["application/problem+json"]
    assert content["schema"] == {"$ref": "#/components/schemas/ProblemDetails"}
    assert set(content["examples"]) == {"EmailTakenException", "TeapotBrokenException"}
    assert content["examples"]["TeapotBrokenException"]["summary"] == "The teapot has a crack."
    assert content["examples"]["TeapotBrokenException"]["value"]["internal_code"] == 40949


def test_openapi_is_the_same_with_every_python():
    """Python 3.13 renamed four statuses; a client's generated types must not depend on who generated them."""
    documented = errors(UnprocessableException, PayloadTooLargeException)

    assert documented[413]["description"] == "Content too large"
    assert documented[422]["description"] == "Unprocessable content"


def test_openapi_adds_common_errors_to_every_route(kit: AppKit):
    @kit.app.patch("/people", responses=errors(InvalidCredentialsException))
    async def change_person(person: Person, user: CurrentUser) -> str:
        return f"{person} {user}"

    kit.app.add_api_route("/people", lambda: "", methods=["GET"])
    people = kit.app.openapi()["paths"]["/people"]
    examples = {
        status: set(response["content"]["application/problem+json"]["examples"])
        for status, response in people["patch"]["responses"].items()
        if status != "200"
    }
    assert examples == {
        "400": {"BadRequestException"},
        "401": {
            "InvalidCredentialsException",
            "SessionRevokedException",
            "TokenExpiredException",
            "UnauthorizedException",
        },
        "403": {"CrossSiteRequestException"},
        "413": {"PayloadTooLargeException"},
        "422": {"UnprocessableException"},
    }
    assert set(people["get"]["responses"]) == {"200"}


def test_openapi_has_our_schema_for_validation_errors(people: FastAPI):
    router = APIRouter()
    router.add_api_route("/late/{number}", lambda number: number)
    people.openapi()
    people.include_router(router)
    document = people.openapi()
    assert "ValidationError" not in str(document)
    assert {"ProblemDetails", "FieldProblem"} <= set(document["components"]["schemas"])
    late = document["paths"]["/late/{number}"]["get"]["responses"]["422"]
    assert set(late["content"]) == {"application/problem+json"}


def test_openapi_keeps_a_routes_own_422(app: FastAPI):
    app.add_api_route("/{number}", lambda number: number, responses={422: {"description": "An odd number."}})
    app.openapi()
    assert app.openapi()["paths"]["/{number}"]["get"]["responses"]["422"] == {"description": "An odd number."}


def test_openapi_examples_match_the_schema(app: FastAPI):
    for status, response in errors(*APIException.registry().values()).items():
        for example in response["content"]["application/problem+json"]["examples"].values():
            assert ProblemDetails.model_validate(example["value"]).status == status


def test_problem_with_an_apps_own_code_has_type_about_blank():
    class ShelfIsFullException(ConflictException):
        """There is no room on the shelf of this test."""

        internal_code = 40937

    assert describe(ShelfIsFullException)["type"] == "about:blank"
    assert describe(ConflictException)["type"].endswith("/reference/errors/#40900")
