"""Replicas: requests to an app with a streaming replica that has a delay of half a second."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from fastapi import APIRouter, FastAPI
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import func, select, text
from sqlalchemy.orm import Mapped

from appkit.api.dependencies import DbSession, ReadSession
from appkit.core.settings import DatabaseSettings, Settings
from appkit.exceptions import BadRequestException, ServiceUnavailableException
from appkit.kit import AppKit
from appkit.repository import engines, reading
from appkit.repository.base import BaseTableModel
from appkit.repository.database import Database
from appkit.testing.kits import settings_for_tests

pytestmark = pytest.mark.slow  # Starts servers, and waits for the delay.

COOKIE = "appkit_wrote"
WHERE = text("SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END")


class ReplicatedNote(BaseTableModel):
    text: Mapped[str]


router = APIRouter(prefix="/notes")


@router.post("")
async def add_note(db: DbSession, *, fail: bool = False) -> None:
    db.add(ReplicatedNote(text="new"))
    await db.flush()
    if fail:
        raise BadRequestException


@router.get("")
async def count_notes(db: ReadSession) -> tuple[str, int]:
    return await db.scalar(WHERE) or "", await db.scalar(select(func.count()).select_from(ReplicatedNote)) or 0


@router.get("/unit")
async def count_in_a_unit_of_work(db: DbSession, *, write: bool = False, statement: bool = False) -> int:
    if write:
        db.add(ReplicatedNote(text="seen"))
    if statement:
        await db.execute(text("UPDATE replicated_note SET text = 'seen'"))
    return await db.scalar(select(func.count()).select_from(ReplicatedNote)) or 0


@pytest.fixture
async def apps(primary, standby) -> AsyncIterator[list[FastAPI]]:
    """Two instances of one app."""
    settings = settings_for_tests(Settings(), primary.url)
    replicated = settings.database.model_copy(update={"replica_urls": (standby.url,), "replica_lag": 1.0})
    settings = settings.model_copy(update={"database": replicated})
    async with AsyncExitStack() as stack:
        kits = [AppKit(settings, routers=[router], discover=False) for _ in range(2)]
        await kits[0].database.create_all()
        for kit in kits:
            await stack.enter_async_context(kit.app.router.lifespan_context(kit.app))
        await caught_up(kits[0].database)
        yield [kit.app for kit in kits]


async def caught_up(database: Database) -> None:
    async with database.read_session(primary=True) as db:
        written = await db.scalar(text("SELECT pg_current_wal_lsn()::text"))
    async with asyncio.timeout(60):
        while True:
            async with database.read_session() as db:
                if await db.scalar(text(f"SELECT pg_last_wal_replay_lsn() >= '{written}'")):
                    return
            await asyncio.sleep(0.05)


def browser(app: FastAPI, cookies: AsyncClient | None = None) -> AsyncClient:
    headers = {"Sec-Fetch-Site": "same-origin"}
    jar = cookies.cookies if cookies else None
    return AsyncClient(transport=ASGITransport(app), base_url="https://test", headers=headers, cookies=jar)


@pytest.mark.clock(reason="The replica has a delay of half a second, and writers read from the primary for one second.")
async def test_read_your_writes_on_every_instance(apps):
    async with browser(apps[0]) as writer, browser(apps[1]) as other:
        _, before = (await other.get("/api/notes")).json()
        assert (await writer.post("/api/notes")).status_code == 200
        assert (await other.get("/api/notes")).json() == ["standby", before]
        assert (await writer.get("/api/notes")).json() == ["primary", before + 1]
        async with browser(apps[1], cookies=writer) as elsewhere:
            assert (await elsewhere.get("/api/notes")).json() == ["primary", before + 1]
        await asyncio.sleep(1.2)
        assert (await writer.get("/api/notes")).json() == ["standby", before + 1]
        assert (await other.get("/api/notes")).json() == ["standby", before + 1]


@pytest.mark.parametrize(
    ("method", "path", "writes"),
    [
        ("POST", "", True),
        ("POST", "?fail=true", False),
        ("GET", "", False),
        ("GET", "/unit", False),
        ("GET", "/unit?write=true", True),
        ("GET", "/unit?statement=true", True),
    ],
)
async def test_only_clients_that_wrote_read_from_the_primary(apps, method, path, writes):
    async with browser(apps[0]) as client:
        response = await client.request(method, f"/api/notes{path}")
        assert (COOKIE in response.cookies) is writes
        if writes:
            assert response.headers["set-cookie"] == f"{COOKIE}=1; HttpOnly; Max-Age=1; Path=/; SameSite=lax"


@pytest.mark.clock(reason="The replica has a delay of half a second, and writers read from the primary for one second.")
async def test_a_session_opened_after_the_commit_reads_from_the_primary(apps):
    database: Database = apps[0].state.appkit.database
    token = reading.client.set(reading.Client())
    try:
        async with database.session() as db:
            db.add(ReplicatedNote(text="mine"))
            async with database.read_session() as reader:
                assert await reader.scalar(WHERE) == "standby"
        async with database.read_session() as reader:
            assert await reader.scalar(WHERE) == "primary"
    finally:
        reading.client.reset(token)
    async with database.read_session() as reader:
        assert await reader.scalar(WHERE) == "standby"


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_unreachable_replica_falls_back_to_the_primary(primary, standby, monkeypatch, caplog, driver):
    monkeypatch.setattr(engines, "_REPLICA_RETRY", 0.3)
    url = primary.url.replace("postgresql:", f"postgresql+{driver}:")
    replica = standby.url.replace("postgresql:", f"postgresql+{driver}:")
    database = Database(DatabaseSettings(url=url, replica_urls=(replica,), pool_timeout=2.0))

    async def where() -> str:
        async with database.read_session() as db:
            return str(await db.scalar(WHERE))

    assert await where() == "standby"
    standby.kill()
    try:
        assert await where() == "primary"
        assert await asyncio.gather(*(where() for _ in range(20))) == ["primary"] * 20
        assert "A replica can't be reached" in caplog.text
    finally:
        standby.start()
    async with asyncio.timeout(60):
        while await where() != "standby":  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.05)
    await database.dispose()


async def test_unreachable_replica_and_primary_are_a_503():
    gone = "postgresql://postgres@127.0.0.1:9/none"
    database = Database(DatabaseSettings(url=gone, replica_urls=(gone,), pool_timeout=1.0))
    for _ in range(2):
        with pytest.raises(ServiceUnavailableException):
            async with database.read_session() as db:
                await db.scalar(WHERE)
    await database.dispose()
