"""Every connection has an id and a line in the log, safe headers, and a body within its limit."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import APIRouter, Body, FastAPI, Request, Response, WebSocket
from httpx2 import AsyncClient
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from appkit.api.errors import install_error_handlers
from appkit.api.middleware import BodyLimitMiddleware, RequestContextMiddleware, SecurityHeadersMiddleware
from appkit.core.context import request_id, user_id

Serve = Callable[..., AsyncClient]
ACCESS = "appkit.access"


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)
    return app


# Ids and access lines


@pytest.fixture
def traced(app: FastAPI) -> FastAPI:
    router = APIRouter(prefix="/posts")

    @router.get("/{number}")
    async def show_post(number: int) -> str | None:
        return request_id.get()

    @app.get("/broken")
    async def break_() -> None:
        raise RuntimeError("boom")

    @app.websocket("/ws")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(request_id.get() or "")
        await socket.close()

    app.include_router(router, prefix="/api")
    app.add_middleware(RequestContextMiddleware)
    return app


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    names = ("method", "path", "status")
    return [{name: getattr(record, name) for name in names} for record in caplog.records if record.name == ACCESS]


async def test_each_request_has_its_own_id(traced: FastAPI, serve: Serve):
    first, second = await serve(traced).get("/api/posts/1"), await serve(traced).get("/api/posts/1")
    assert first.json() == first.headers["x-request-id"] != second.headers["x-request-id"]
    assert request_id.get() is None


async def test_valid_incoming_request_id_is_kept(traced: FastAPI, serve: Serve):
    answer = await serve(traced).get("/api/posts/1", headers={"X-Request-ID": "edge:7f-1_a.b"})
    assert answer.json() == answer.headers["x-request-id"] == "edge:7f-1_a.b"


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", 'a"b', "a\tb", "é", "${jndi:x}"])
async def test_invalid_incoming_request_id_is_replaced(traced: FastAPI, serve: Serve, sent: str):
    answer = await serve(traced).get("/api/posts/1", headers={b"X-Request-ID": sent.encode("latin-1")})
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize("path", ["/api/posts/x", "/nowhere", "/broken"])
async def test_problem_document_has_the_id_of_its_header(traced: FastAPI, serve: Serve, path: str):
    answer = await serve(traced).get(path)
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/api/posts/7?token=secret", "/api/posts/{number}", 200),
        ("GET", "/api/posts/secret", "/api/posts/{number}", 422),
        ("POST", "/api/posts/7", "/api/posts/{number}", 405),
        ("GET", "/secret", "<unmatched>", 404),
        ("GET", "/broken", "/broken", 500),
    ],
)
async def test_access_line_has_the_route_and_no_request_data(
    traced: FastAPI, serve: Serve, caplog: pytest.LogCaptureFixture, method: str, path: str, route: str, status: int
):
    caplog.set_level(logging.INFO, ACCESS)
    await serve(traced).request(method, path)
    assert lines(caplog) == [{"method": method, "path": route, "status": status}]
    record = next(record for record in caplog.records if record.name == ACCESS)
    assert vars(record)["duration_ms"] >= 0
    assert "secret" not in str(vars(record))


async def test_ids_are_set_while_the_access_line_is_written_and_not_after(
    app: FastAPI, serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    seen: list[tuple[str | None, str | None]] = []

    @app.get("/me")
    async def show_me() -> None:
        user_id.set("ann")

    app.add_middleware(RequestContextMiddleware)
    monkeypatch.setattr(
        "appkit.api.middleware.access.info", lambda *_, **__: seen.append((request_id.get(), user_id.get()))
    )
    answer = await serve(app).get("/me")
    assert seen == [(answer.headers["x-request-id"], "ann")]
    assert user_id.get() is None


def test_websocket_has_an_id_and_one_access_line(traced: FastAPI, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, ACCESS)
    with TestClient(traced).websocket_connect("/ws", headers={"X-Request-ID": "a1"}) as socket:
        assert socket.receive_text() == "a1"
        socket.receive()
    assert lines(caplog) == [{"method": "WEBSOCKET", "path": "/ws", "status": 101}]


def test_refused_websocket_is_logged_as_403(traced: FastAPI, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, ACCESS)
    with pytest.raises(WebSocketDisconnect), TestClient(traced).websocket_connect("/nowhere"):
        pass
    assert [line["status"] for line in lines(caplog)] == [403]


def test_lifespan_passes_through(app: FastAPI):
    app.add_middleware(RequestContextMiddleware)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(BodyLimitMiddleware, max_bytes=10)
    with TestClient(app) as client:
        assert client.get("/").status_code == 404


# Security headers


@pytest.fixture
def guarded(app: FastAPI) -> FastAPI:
    @app.get("/api/thing")
    async def show_thing() -> str:
        return "thing"

    @app.get("/api/cached")
    async def show_cached(response: Response) -> str:
        response.headers["Cache-Control"] = "public, max-age=60"
        response.headers["Content-Security-Policy"] = "default-src 'self'"
        return "thing"

    @app.get("/page")
    @app.get("/apiary")
    async def show_page() -> str:
        return "page"

    return app


@pytest.mark.parametrize("path", ["/api/thing", "/page", "/api/nowhere", "/nowhere"])
async def test_every_response_has_security_headers(guarded: FastAPI, serve: Serve, path: str):
    guarded.add_middleware(SecurityHeadersMiddleware)
    headers = (await serve(guarded).get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    for directive in ("object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert directive in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "strict-transport-security" not in headers


async def test_hsts_is_sent_if_enabled(guarded: FastAPI, serve: Serve):
    guarded.add_middleware(SecurityHeadersMiddleware, hsts=True)
    headers = (await serve(guarded).get("/page")).headers
    assert headers["strict-transport-security"] == "max-age=63072000"


@pytest.mark.parametrize("root_path", ["", "/behind/a/proxy"])
async def test_api_is_not_cached_and_loads_nothing(guarded: FastAPI, root_path: str):
    guarded.add_middleware(SecurityHeadersMiddleware, api_prefix="/api")
    client = TestClient(guarded, root_path=root_path)
    for path in ("/api/thing", "/api/nowhere"):
        headers = client.get(root_path + path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
    for path in ("/page", "/apiary"):
        headers = client.get(root_path + path).headers
        assert headers["cache-control"] == "no-cache"
        assert headers["content-security-policy"].startswith("default-src 'self'")


async def test_header_of_a_response_is_kept(guarded: FastAPI, serve: Serve):
    guarded.add_middleware(SecurityHeadersMiddleware)
    headers = (await serve(guarded).get("/api/cached")).headers
    assert headers["cache-control"] == "public, max-age=60"
    assert headers["content-security-policy"] == "default-src 'self'"


# Bodies


@pytest.fixture
def limited(app: FastAPI) -> FastAPI:
    app.post("/text")(_size)
    app.post("/large", max_body_size=100)(_size)
    app.post("/small", max_body_size=3)(_size)

    @app.post("/stream")
    async def take_stream(request: Request) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    @app.post("/unread")
    async def ignore() -> str:
        return "fine"

    app.add_middleware(BodyLimitMiddleware, max_bytes=10)
    return app


async def _size(text: str = Body()) -> int:
    return len(text)


def chunked(body: bytes) -> AsyncIterator[bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 4):
            yield body[start : start + 4]

    return chunks()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/text", 10, 200),
        ("/text", 11, 413),
        ("/large", 100, 200),
        ("/large", 101, 413),
        ("/small", 3, 200),
        ("/small", 4, 413),
    ],
)
async def test_body_over_the_limit_is_413(
    limited: FastAPI, serve: Serve, path: str, size: int, status: int, *, stream: bool
):
    body = b'"' + b"x" * (size - 2) + b'"'
    answer = await serve(limited).post(
        path, content=chunked(body) if stream else body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status
    if status == 413:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["internal_code"] == 41300
        assert answer.json()["detail"] == "The request is too large."


async def test_stream_over_the_limit_is_413(limited: FastAPI, serve: Serve):
    answer = await serve(limited).post("/stream", content=chunked(b"x" * 11))
    assert (answer.status_code, answer.json()["internal_code"]) == (413, 41300)


async def test_unread_body_is_not_limited(limited: FastAPI, serve: Serve):
    assert (await serve(limited).post("/unread", content=b"x" * 11)).status_code == 200


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1e9", "ten"])
async def test_strange_content_length_causes_no_server_error(limited: FastAPI, serve: Serve, length: str):
    answer = await serve(limited).post(
        "/text", content=b"1", headers={"Content-Length": length, "Content-Type": "application/json"}
    )
    assert answer.status_code in {200, 413, 422}


async def test_started_response_is_cut_off_at_the_limit(app: FastAPI):
    """A server that raises closes the connection: nobody takes half an answer for a whole one."""

    class Echo:
        def __init__(self, app: ASGIApp) -> None: ...

        async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await receive()

    app.add_middleware(Echo)
    app.add_middleware(BodyLimitMiddleware, max_bytes=10)
    with pytest.raises(HTTPException, match="too large"):
        TestClient(app).post("/", content=b"x" * 11)


async def test_body_over_the_limit_that_middleware_reads_is_413(app: FastAPI, serve: Serve):
    class Reader:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await self.app(scope, receive, send)

    app.add_middleware(Reader)
    app.add_middleware(BodyLimitMiddleware, max_bytes=10)
    answer = await serve(app).post("/text", content=b"x" * 11)
    assert (answer.status_code, answer.json()["internal_code"]) == (413, 41300)
