"""What routes ask for: a session that commits in time, and people who are who they say."""

import asyncio
from typing import Annotated
from uuid import UUID

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import event, inspect, select, text, update
from sqlalchemy.pool import Pool

from appkit.api.dependencies import (
    CurrentPrincipal,
    CurrentSuperuser,
    CurrentUser,
    DbSession,
    OptionalUser,
    ReadSession,
    get_user,
)
from appkit.core.context import user_id
from appkit.exceptions import (
    AppKitError,
    BadRequestException,
    ForbiddenException,
    SessionRevokedException,
    UnauthorizedException,
)
from appkit.repository.database import on_commit

router = APIRouter(prefix="/probe")


@router.get("/user")
async def read_user(user: CurrentUser) -> dict[str, object]:
    return {"id": user.id, "detached": inspect(user).detached, "logged": user_id.get()}


@router.get("/principal")
async def read_principal(principal: CurrentPrincipal) -> UUID:
    return principal.user_id


@router.get("/optional")
async def read_optional(user: OptionalUser) -> str | None:
    return user.email if user else None


@router.get("/superuser")
async def read_superuser(user: CurrentSuperuser) -> str:
    return user.email


@router.post("/promote")
async def promote(user: CurrentUser, db: DbSession, *, fail: bool = False) -> None:
    (await db.get_one(type(user), user.id)).is_superuser = True
    if fail:
        raise BadRequestException


@router.get("/session")
async def read_session(user: CurrentUser, db: DbSession) -> int | None:
    return await db.scalar(select(1))


@router.post("/order")
async def note_the_commit(request: Request, db: DbSession) -> None:
    on_commit(db, lambda: request.app.state.order.append("commit"))


@router.post("/read-session")
async def write_to_read_session(reader: ReadSession) -> None:
    await reader.execute(text("DELETE FROM auth_session"))


@router.websocket("/socket")
async def talk(socket: WebSocket, user: Annotated[object, Depends(get_user)]) -> None:
    await socket.accept()
    await socket.send_text(user_id.get() or "")
    await socket.close()


@pytest.fixture
def kit(kit):
    kit._routers = (router,)
    return kit


async def test_current_user_is_read_before_the_route_and_detached(auth_client, user):
    body = (await auth_client.get("/api/probe/user")).json()
    assert body == {"id": str(user.id), "detached": True, "logged": str(user.id)}


async def test_current_user_takes_one_statement_and_current_principal_none(auth_client, count_queries):
    with count_queries(max=1):
        assert (await auth_client.get("/api/probe/user")).status_code == 200
    with count_queries(max=0):
        assert (await auth_client.get("/api/probe/principal")).status_code == 200


async def test_signout_stops_current_user_but_not_current_principal(auth_client, user, assert_error):
    held = dict(auth_client.cookies)
    await auth_client.post("/api/auth/signout")
    auth_client.cookies.update(held)
    assert (await auth_client.get("/api/probe/principal")).json() == str(user.id)
    assert_error(await auth_client.get("/api/probe/user"), SessionRevokedException)
    assert_error(await auth_client.get("/api/probe/optional"), SessionRevokedException)


async def test_optional_user_is_none_only_without_credentials(client, auth_client, user, assert_error):
    assert (await client.get("/api/probe/optional")).json() is None
    assert (await auth_client.get("/api/probe/optional")).json() == user.email
    client.cookies.set("appkit_at", "garbage")
    assert_error(await client.get("/api/probe/optional"), UnauthorizedException)


@pytest.mark.parametrize("path", ["user", "principal", "superuser"])
async def test_current_user_requires_signing_in(client, assert_error, path):
    assert_error(await client.get(f"/api/probe/{path}"), UnauthorizedException)


async def test_current_superuser_requires_a_superuser(auth_client, admin_client, assert_error):
    assert_error(await auth_client.get("/api/probe/superuser"), ForbiddenException)
    assert (await admin_client.get("/api/probe/superuser")).json() == "admin@example.com"


async def test_db_session_commits_before_the_response_and_rolls_back_on_error(auth_client):
    assert (await auth_client.post("/api/probe/promote", params={"fail": True})).status_code == 400
    assert (await auth_client.get("/api/auth/me")).json()["is_superuser"] is False
    assert (await auth_client.post("/api/probe/promote")).status_code == 200
    assert (await auth_client.get("/api/auth/me")).json()["is_superuser"] is True


async def test_db_session_commits_before_the_first_byte_is_sent(app):
    """Else whoever has the answer may not find what it speaks of, and a commit that fails looks like a success."""
    order = app.state.order = []

    async def watched(scope, receive, send):
        async def note(message):
            order.append(message["type"])
            await send(message)

        await app(scope, receive, note)

    async with AsyncClient(transport=ASGITransport(watched), base_url="https://testserver") as client:
        await client.post("/api/probe/order")
    assert order[:2] == ["commit", "http.response.start"]


async def test_read_session_refuses_to_write(client):
    with pytest.raises(AppKitError, match="A read session can't write"):
        await client.post("/api/probe/read-session")


async def test_requests_that_read_do_not_wait_for_sqlite_s_writer(auth_client, kit):
    async with kit.session() as session, asyncio.timeout(30):
        await session.execute(update(kit.context.user_model).values(is_superuser=True))
        assert (await auth_client.get("/api/probe/session")).json() == 1


async def test_current_user_releases_its_connection_before_the_route_runs(auth_client):
    """Else as many requests as there are connections would wait for each other for ever."""
    held, most = 0, 0

    def check_out(*_):
        nonlocal held, most
        held += 1
        most = max(most, held)

    def check_in(*_):
        nonlocal held
        held -= 1

    listeners = {"checkout": check_out, "checkin": check_in}
    for name, listener in listeners.items():
        event.listen(Pool, name, listener)
    try:
        assert (await auth_client.get("/api/probe/session")).json() == 1
    finally:
        for name, listener in listeners.items():
            event.remove(Pool, name, listener)
    assert most == 1


async def test_current_user_works_on_websockets(auth_client, app, user):
    """In this process, without a server: the handshake carries the same cookies."""
    sent = []
    cookies = "; ".join(f"{name}={value}" for name, value in auth_client.cookies.items())
    for headers in ([(b"cookie", cookies.encode()), (b"sec-fetch-site", b"same-origin")], []):
        scope = {
            "type": "websocket",
            "path": "/api/probe/socket",
            "raw_path": b"/api/probe/socket",
            "query_string": b"",
            "headers": headers,
            "subprotocols": [],
            "state": {},
        }

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message)

        await app(scope, receive, send)
    accepted, refused = [message["type"] for message in sent[:3]], [message["type"] for message in sent[3:]]
    assert accepted == ["websocket.accept", "websocket.send", "websocket.close"]
    assert refused == ["websocket.close"]
    assert sent[1]["text"] == str(user.id)


async def test_openapi_has_both_security_schemes(app):
    document = app.openapi()
    schemes = document["components"]["securitySchemes"]
    assert {(scheme["type"], scheme.get("in"), scheme.get("scheme")) for scheme in schemes.values()} == {
        ("apiKey", "cookie", None),
        ("http", None, "bearer"),
    }
    assert document["paths"]["/api/auth/me"]["get"]["security"] == [{"Cookie": []}, {"Bearer": []}]
    assert "security" not in document["paths"]["/api/auth/signin"]["post"]


async def test_app_without_a_kit_raises_a_clear_error():
    app = FastAPI()
    app.include_router(router)
    async with AsyncClient(transport=ASGITransport(app), base_url="https://testserver") as client:
        with pytest.raises(AppKitError, match=r"kit\.install\(app\)"):
            await client.get("/probe/user")
