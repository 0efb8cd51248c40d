"""Websockets of people who are signed in."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from fastapi import APIRouter, WebSocket
from sqlalchemy import update

from appkit import SocketUser
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow

router = APIRouter(prefix="/probe")


@router.websocket("/live")
async def live(socket: WebSocket, user: SocketUser) -> None:
    await socket.accept()
    await socket.send_text(user.email)
    async for text in socket.iter_text():
        await socket.send_text(text.upper())


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"auth": settings.auth.model_copy(update={"socket_check": 0.05})})


@pytest.fixture
def kit(kit):
    kit._routers = (router,)
    return kit


class Line:
    """A websocket as a server would have it."""

    def __init__(self, app: Any, cookies: Mapping[str, str], **headers: str) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        pairs = {"cookie": cookie, "host": "testserver", "sec-fetch-site": "same-origin"} | headers
        self.scope = {
            "type": "websocket",
            "path": "/api/probe/live",
            "raw_path": b"/api/probe/live",
            "query_string": b"",
            "root_path": "",
            "scheme": "wss",
            "server": ("testserver", 443),
            "client": ("127.0.0.1", 5000),
            "headers": [(name.encode(), value.encode()) for name, value in pairs.items() if value],
            "subprotocols": [],
            "state": {},
        }
        self.received.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(app(self.scope, self.received.get, self.send))

    async def send(self, message):
        if message["type"] == "websocket.close":
            self.received.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
        await self.sent.put(message)

    async def next(self):
        async with asyncio.timeout(60):
            return await self.sent.get()


@pytest.fixture
async def connect(app, auth_client):
    lines = []

    def connect(**headers):
        lines.append(line := Line(app, auth_client.cookies, **headers))
        return line

    yield connect
    for line in lines:
        line.received.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(line.task, 60)


async def test_socket_stays_open_while_its_session_lives(connect, user):
    line = connect()
    assert [(await line.next())["type"], (await line.next())["text"]] == ["websocket.accept", user.email]
    await asyncio.sleep(0.2)
    line.received.put_nowait({"type": "websocket.receive", "text": "hello"})
    assert (await line.next())["text"] == "HELLO"


async def test_socket_is_closed_after_its_session_ended(connect, kit):
    line = connect()
    assert [(await line.next())["type"] for _ in range(2)] == ["websocket.accept", "websocket.send"]
    async with kit.session() as db:
        await db.execute(update(AuthSession).values(revoked_at=utcnow()))
    assert await line.next() == {"type": "websocket.close", "code": 1008, "reason": "Signed out."}


async def test_socket_is_closed_when_the_check_fails(connect, kit, monkeypatch):
    line = connect()
    assert [(await line.next())["type"] for _ in range(2)] == ["websocket.accept", "websocket.send"]

    def refuse(**_):
        raise OSError("The database is gone.")

    monkeypatch.setattr(kit.database, "read_session", refuse)
    assert (await line.next())["code"] == 1008


async def test_socket_without_a_user_is_refused(connect):
    line = connect(cookie="")
    assert (await line.next())["code"] == 1008


async def test_socket_of_another_site_is_refused(connect):
    line = connect(origin="https://evil.example", **{"sec-fetch-site": "cross-site"})
    assert (await line.next())["code"] == 1008
