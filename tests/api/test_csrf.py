"""No other site makes a browser act with our cookies, and nobody else is kept out."""

from collections.abc import Callable

import pytest
from fastapi import FastAPI, WebSocket
from httpx2 import AsyncClient
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Message

from appkit.api.csrf import CSRFMiddleware, origin_of
from appkit.api.errors import install_error_handlers

Serve = Callable[..., AsyncClient]

OURS = {"Cookie": "theme=dark; __Host-desk_at=abc"}
OTHERS = {"Cookie": "theme=dark; x__Host-desk_at=abc; a=__Host-desk_at"}


def build(*, origins: tuple[str, ...] = ("https://app.example.com/desk",), trust_host: bool = False) -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)

    async def endpoint() -> str:
        return "done"

    for path in ("/api/posts", "/api/auth/signin"):
        app.add_api_route(path, endpoint, methods=["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])

    @app.websocket("/ws")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    app.add_middleware(
        CSRFMiddleware,
        origins=origins,
        cookies=("__Host-desk_at", "__Host-desk_rt"),
        always="/api/auth/",
        trust_host=trust_host,
    )
    return app


@pytest.fixture
def app() -> FastAPI:
    return build()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "nonsense"}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://evil.example.com"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example.com"}, 200),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://app.example.com"}, 200),
        ({"Origin": "https://app.example.com"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "https://app.example.com.evil.example"}, 403),
        ({"Origin": "https://app.example.com:8443"}, 403),
        ({"Origin": "http://app.example.com"}, 403),
        ({"Origin": "https://[::1"}, 403),
        ({"Origin": "https://evil.example", "Host": "evil.example"}, 403),
        ({"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"}, 403),
        ({}, 200),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_request_with_our_cookies_must_come_from_our_pages(
    app: FastAPI, serve: Serve, method: str, headers: dict[str, str], status: int
):
    answer = await serve(app).request(method, "/api/posts", headers=headers | OURS)
    assert answer.status_code == status
    if status == 403:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["vary"] == "Sec-Fetch-Site, Origin"
        assert answer.json()["internal_code"] == 40250


CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_request_with_a_safe_method_is_accepted(app: FastAPI, serve: Serve, method: str):
    assert (await serve(app).request(method, "/api/posts", headers=CROSS_SITE | OURS)).status_code == 200


@pytest.mark.parametrize("cookies", [{}, OTHERS])
async def test_request_without_our_cookies_is_accepted(app: FastAPI, serve: Serve, cookies: dict[str, str]):
    assert (await serve(app).post("/api/posts", headers=CROSS_SITE | cookies)).status_code == 200


@pytest.mark.parametrize("root_path", ["", "/proxied"])
def test_signing_in_is_checked_without_cookies_too(app: FastAPI, root_path: str):
    client = TestClient(app, root_path=root_path)
    path = f"{root_path}/api/auth/signin"
    assert client.post(path, headers=CROSS_SITE).status_code == 403
    assert client.post(path, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert client.post(path).status_code == 200


async def test_cookies_may_come_in_several_headers(app: FastAPI, serve: Serve):
    headers = [*CROSS_SITE.items(), ("Cookie", "theme=dark"), ("Cookie", "__Host-desk_rt=abc")]
    assert (await serve(app).post("/api/posts", headers=headers)).status_code == 403


async def test_request_with_a_bearer_token_is_not_checked(app: FastAPI, serve: Serve):
    headers = CROSS_SITE | OURS | {"Authorization": "bearer abc"}
    assert (await serve(app).post("/api/posts", headers=headers)).status_code == 200


@pytest.mark.parametrize("authorization", ["", "Basic YTpi", "Bearer", "Bearerx y"])
async def test_request_with_basic_authorization_is_checked(app: FastAPI, serve: Serve, authorization: str):
    headers = CROSS_SITE | OURS | {"Authorization": authorization}
    assert (await serve(app).post("/api/posts", headers=headers)).status_code == 403


HOST = {"Host": "localhost:8000", "Origin": "http://localhost:8000"}


@pytest.mark.parametrize(
    ("origins", "trust_host", "headers", "status"),
    [
        ((), True, HOST, 200),
        ((), True, HOST | {"Origin": "http://localhost:9000"}, 403),
        ((), True, HOST | {"Origin": "null"}, 403),
        ((), True, HOST | {"Sec-Fetch-Site": "cross-site"}, 403),
        ((), False, HOST, 403),
        (("http://localhost:5173",), True, HOST, 403),
        (("http://localhost:5173",), True, HOST | {"Origin": "http://localhost:5173"}, 200),
    ],
)
async def test_host_is_trusted_only_in_development_without_origins(
    serve: Serve, origins: tuple[str, ...], headers: dict[str, str], status: int, *, trust_host: bool
):
    app = build(origins=origins, trust_host=trust_host)
    assert (await serve(app).post("/api/posts", headers=headers | OURS)).status_code == status


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://App.Example.com/desk/?q=1", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80/", "http://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("http://localhost:5173", "http://localhost:5173"),
    ],
)
def test_origin_is_normalised_as_browsers_do(url: str, origin: str):
    assert origin_of(url) == origin


# Websockets


@pytest.mark.parametrize(
    "headers", [{}, OURS, CROSS_SITE, OURS | {"Origin": "https://app.example.com"}, OURS | {"Sec-Fetch-Site": "none"}]
)
def test_websocket_of_our_pages_and_of_programs_is_accepted(app: FastAPI, headers: dict[str, str]):
    with TestClient(app).websocket_connect("/ws", headers=headers) as socket:
        assert socket.receive()["type"] == "websocket.close"


def test_websocket_of_another_site_with_our_cookies_is_refused(app: FastAPI):
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        TestClient(app).websocket_connect("/ws", headers={"Origin": "https://evil.example"} | OURS),
    ):
        pass
    assert refused.value.status_code == 403
    assert refused.value.json()["internal_code"] == 40250


async def test_websocket_is_closed_if_the_server_cannot_send_a_response(app: FastAPI):
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    headers = [(name.lower().encode(), value.encode()) for name, value in (CROSS_SITE | OURS).items()]
    await app({"type": "websocket", "path": "/ws", "query_string": b"", "headers": headers}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
