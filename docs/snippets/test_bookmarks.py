# mypy: disable-error-code="import-not-found"
"""Each fixture in use: the tests of bookmarks.py."""

from collections.abc import Callable
from typing import Any

import pytest
from bookmarks import AlreadyBookmarkedException, Bookmark, BookmarkAdded, BookmarkService, fetch_title
from fastapi import FastAPI
from httpx2 import AsyncClient
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from appkit import AppKit, BaseUser, Event, Settings, UnauthorizedException
from appkit.core.mail import Mail
from appkit.testing.plugin import MakeUser
from appkit.testing.tasks import Tasks

URL = "https://example.com"


async def test_settings(settings: Settings) -> None:
    assert settings.environment == "test"
    assert settings.mail.url == "memory://"


async def test_database_url(database_url: str, settings: Settings) -> None:
    assert settings.database.url == database_url


async def test_kit(kit: AppKit) -> None:
    assert fetch_title.name in kit.broker.get_all_tasks()


async def test_app(app: FastAPI) -> None:
    assert app.url_path_for("add_bookmark") == "/api/bookmarks"


async def test_db(db: AsyncSession, user: BaseUser) -> None:
    bookmark = await BookmarkService(db).add(user.id, URL)
    assert bookmark.title is None


async def test_client(client: AsyncClient) -> None:
    assert (await client.post("/api/bookmarks", json={"url": URL})).status_code == 401


async def test_user(user: BaseUser) -> None:
    assert user.email == "user@example.com"


async def test_auth_client(auth_client: AsyncClient, db: AsyncSession, user: BaseUser) -> None:
    await auth_client.post("/api/bookmarks", json={"url": URL})
    assert await db.scalar(select(Bookmark.owner_id)) == user.id


async def test_admin_client(admin_client: AsyncClient, user: BaseUser) -> None:
    people = (await admin_client.get("/api/users")).json()["items"]
    assert str(user.id) in [person["id"] for person in people]


async def test_make_user(make_user: MakeUser, db: AsyncSession) -> None:
    ada, somebody = await make_user("ada@example.com"), await make_user()
    await BookmarkService(db).add(ada.id, URL)
    await BookmarkService(db).add(somebody.id, URL)


async def test_tasks(auth_client: AsyncClient, tasks: Tasks, db: AsyncSession) -> None:
    await auth_client.post("/api/bookmarks", json={"url": URL})
    assert await tasks.sent(fetch_title)
    await tasks.run()
    assert await db.scalar(select(Bookmark.title)) == "fetched"


async def test_events(auth_client: AsyncClient, events: list[Event]) -> None:
    await auth_client.post("/api/bookmarks", json={"url": URL})
    assert isinstance(events[-1], BookmarkAdded)


async def test_mailbox(client: AsyncClient, user: BaseUser, tasks: Tasks, mailbox: list[Mail]) -> None:
    await client.post("/api/auth/password/forgot", json={"email": user.email})
    await tasks.run()
    assert mailbox[-1].to == user.email


async def test_count_queries(db: AsyncSession, user: BaseUser, count_queries: Callable[..., Any]) -> None:
    with count_queries(max=2) as statements:
        await BookmarkService(db).add(user.id, URL)
    assert "INSERT INTO bookmark" in statements[-1]


@pytest.mark.usefixtures("never_blocks")
async def test_never_blocks(auth_client: AsyncClient) -> None:
    await auth_client.post("/api/bookmarks", json={"url": URL})


async def test_assert_error(auth_client: AsyncClient, client: AsyncClient, assert_error: Callable[..., Any]) -> None:
    await auth_client.post("/api/bookmarks", json={"url": URL})
    again = await auth_client.post("/api/bookmarks", json={"url": URL})
    assert_error(again, AlreadyBookmarkedException)
    assert_error(await client.post("/api/bookmarks", json={"url": URL}), UnauthorizedException)
