"""One unit of work for a request: what the answer says is what the database holds, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi.responses import JSONResponse, StreamingResponse
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import ForeignKey, func, select
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.util import greenlet_spawn

from appkit.api.dependencies import DbSession
from appkit.core.settings import Settings
from appkit.exceptions import ConstraintViolatedException, NotFoundException
from appkit.kit import AppKit
from appkit.repository.base import BaseTableModel, uuid7
from appkit.repository.database import Database, on_commit
from appkit.testing.kits import settings_for_tests

pytestmark = pytest.mark.both_databases  # When and how transactions end is what these tests are about.


class Leaf(BaseTableModel):
    branch_id: Mapped[UUID | None] = mapped_column(ForeignKey("leaf.id", deferrable=True, initially="DEFERRED"))


router = APIRouter(prefix="/leaves")


async def add_leaf(db: DbSession) -> None:
    db.add(Leaf())
    await db.flush()


async def refuse() -> None:
    raise NotFoundException


Added = Annotated[None, Depends(add_leaf)]


@router.post("/orphan")
async def add_orphan(db: DbSession) -> str:
    db.add(Leaf(branch_id=uuid7()))
    await db.flush()  # Only the commit will find out.
    return "fine"


@router.post("/raise")
async def add_and_raise(_: Added) -> None:
    raise NotFoundException


@router.post("/bug")
async def add_and_break(_: Added) -> None:
    raise ZeroDivisionError


@router.post("/later")
async def add_and_be_refused(_: Added, __: Annotated[None, Depends(refuse)]) -> None:
    """The dependencies behind it raise."""


@router.post("/invalid")
async def add_and_answer_nonsense(_: Added) -> int:
    return "no number"  # type: ignore[return-value] # That is what is tested.


@router.post("/unprocessable")
async def add_and_be_asked_nonsense(_: Added, number: Annotated[int, Query()]) -> None:
    """Its parameter is missing."""


@router.post("/returned")
async def add_and_return_an_error(_: Added) -> JSONResponse:
    return JSONResponse("Not an exception, so it is committed.", status_code=404)


@router.post("/hook")
async def add_with_a_hook_that_fails(_: Added, db: DbSession) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    on_commit(db, fail)


@router.get("/stream")
async def stream_with_a_session_that_has_ended(db: DbSession) -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        yield str(await db.scalar(select(func.count()).select_from(Leaf)))

    return StreamingResponse(body())


@router.post("/slow")
async def add_slowly(_: Added) -> None:
    await asyncio.sleep(0.2)


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[FastAPI]:
    app = AppKit(settings_for_tests(Settings(), database_url), routers=[router], discover=False).app
    await app.state.appkit.database.create_all()
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="https://test") as client:
        yield client


@pytest.fixture
def database(app: FastAPI) -> Database:
    database: Database = app.state.appkit.database
    return database


async def count(database: Database) -> int | None:
    async with database.read_session() as db:
        return await db.scalar(select(func.count()).select_from(Leaf))


async def test_failed_commit_is_not_answered_as_success(client, database, assert_error):
    problem = assert_error(await client.post("/api/leaves/orphan"), ConstraintViolatedException)
    assert "fine" not in str(problem)
    assert await count(database) == 0


@pytest.mark.parametrize(
    ("path", "status", "kept"),
    [
        ("raise", 404, 0),
        ("bug", 500, 0),
        ("later", 404, 0),
        ("invalid", 500, 0),
        ("unprocessable", 422, 0),
        ("returned", 404, 1),
        ("hook", 200, 1),
        ("slow", 200, 1),
    ],
)
async def test_raising_rolls_back_and_returning_commits(client, database, path, status, kept):
    assert (await client.post(f"/api/leaves/{path}")).status_code == status
    assert await count(database) == kept


async def test_cancelled_request_is_rolled_back(client, database):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.post("/api/leaves/slow")
    assert await count(database) == 0
    assert "Current Checked out connections: 0" in database.engine.pool.status()


async def test_streamed_body_cannot_use_a_closed_session(client, database, caplog):
    """Else each such request would keep a connection."""
    assert (await client.get("/api/leaves/stream")).content == b""
    assert "This Session has been permanently closed" in caplog.text
    assert "Current Checked out connections: 0" in database.readers.pool.status()


@pytest.mark.both_databases
async def test_requests_survive_a_disposed_pool(client, database):
    running = asyncio.create_task(client.post("/api/leaves/slow"))
    await asyncio.sleep(0.1)
    pool = database.engine.pool
    await database.dispose()
    assert (await running).status_code == 200
    assert (await client.post("/api/leaves/returned")).status_code == 404
    assert await count(database) == 2
    await greenlet_spawn(pool.dispose)  # SQLAlchemy leaves what came back to the old pool to the garbage collector.
