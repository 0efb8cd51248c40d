"""bookmarks.py at the end of the tutorial: rules, pages, a setting, a task with retries, a weekly task."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Annotated, ClassVar
from urllib.request import urlopen
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, mapped_column

from appkit import (
    AppKit,
    BaseService,
    BaseTableModel,
    BaseUser,
    ConflictException,
    CurrentUser,
    CursorPage,
    CursorQuery,
    DbSession,
    Event,
    KeysetPage,
    Mail,
    NotFoundException,
    ReadSession,
    Repository,
    Schema,
    Settings,
    SettingsGroup,
    TaskContext,
    TaskSession,
    errors,
    require,
)


# --8<-- [start:settings]
class BookmarksSettings(SettingsGroup):
    """Settings of bookmarks."""

    limit: int = 1000
    """How many bookmarks a user can have."""


class AppSettings(Settings):
    """appkit's settings and the app's own."""

    app_name: str = "Bookmarks"
    bookmarks: BookmarksSettings = BookmarksSettings()


# --8<-- [end:settings]
router = APIRouter(prefix="/bookmarks", tags=["bookmarks"])
kit = AppKit(AppSettings(), routers=[router])


class User(BaseUser):
    """A person."""


class Bookmark(BaseTableModel):
    url: Mapped[str]
    title: Mapped[str | None]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("user.id"), index=True)


class AlreadyBookmarkedException(ConflictException):
    """The signed-in person already keeps this page."""

    internal_code = 40901
    detail = "You already keep this page."


# --8<-- [start:error]
class TooManyBookmarksException(ConflictException):
    """The user has reached the limit of bookmarks."""

    internal_code = 40902
    detail = "You have reached the limit of bookmarks. Delete one first."


# --8<-- [end:error]
class BookmarkAdded(Event):
    bookmark_id: UUID


# --8<-- [start:service]
class BookmarkService(BaseService):
    @cached_property
    def bookmarks(self) -> Repository[Bookmark]:
        return Repository[Bookmark](self.db)

    async def add(self, owner_id: UUID, url: str) -> Bookmark:
        if await self.bookmarks.exists(Bookmark.owner_id == owner_id, Bookmark.url == url):
            raise AlreadyBookmarkedException
        if await self.bookmarks.count(Bookmark.owner_id == owner_id) >= self.settings.group(BookmarksSettings).limit:
            raise TooManyBookmarksException
        bookmark = await self.bookmarks.create({"owner_id": owner_id, "url": url})
        self.emit(BookmarkAdded(bookmark_id=bookmark.id))
        return bookmark

    async def page(self, owner_id: UUID, query: CursorQuery) -> KeysetPage[Bookmark]:
        return await self.bookmarks.page(query, Bookmark.owner_id == owner_id)

    async def remove(self, owner_id: UUID, bookmark_id: UUID) -> None:
        bookmark = await self.bookmarks.one(Bookmark.id == bookmark_id, Bookmark.owner_id == owner_id)
        await self.bookmarks.delete(bookmark)


# --8<-- [end:service]
# --8<-- [start:routes]
class BookmarkCreate(Schema):
    url: str


class BookmarkSchema(Schema):
    id: UUID
    url: str
    title: str | None


class BookmarkQuery(CursorQuery):
    sortable: ClassVar = {"added": Bookmark.created_at, "url": Bookmark.url}
    default_sort = "-added"


@router.get("")
async def list_bookmarks(
    query: Annotated[BookmarkQuery, Query()], user: CurrentUser, db: ReadSession
) -> CursorPage[BookmarkSchema]:
    return CursorPage[BookmarkSchema].model_validate(await BookmarkService(db).page(user.id, query))


@router.post("", status_code=201, responses=errors(AlreadyBookmarkedException, TooManyBookmarksException))
async def add_bookmark(payload: BookmarkCreate, user: CurrentUser, db: DbSession) -> BookmarkSchema:
    return BookmarkSchema.model_validate(await BookmarkService(db).add(user.id, payload.url))


@router.delete("/{bookmark_id}", status_code=204, responses=errors(NotFoundException))
async def delete_bookmark(bookmark_id: UUID, user: CurrentUser, db: DbSession) -> None:
    await BookmarkService(db).remove(user.id, bookmark_id)


# --8<-- [end:routes]
# --8<-- [start:fresh]
@router.delete("", status_code=204, dependencies=[Depends(require(fresh=True))])
async def delete_all_bookmarks(user: CurrentUser, db: DbSession) -> None:
    await Repository[Bookmark](db).delete_where(Bookmark.owner_id == user.id)


# --8<-- [end:fresh]
# --8<-- [start:task]
@kit.on(BookmarkAdded, max_attempts=3, timeout=30)
async def fetch_title(event: BookmarkAdded, db: TaskSession) -> None:
    bookmark = await db.get_one(Bookmark, event.bookmark_id)
    bookmark.title = await asyncio.to_thread(read_title, bookmark.url)


def read_title(url: str) -> str | None:
    if not url.startswith(("http://", "https://")):
        return None
    with urlopen(url, timeout=10) as page:  # noqa: S310 - only http and https, see above
        found = re.search(r"<title[^>]*>(.*?)</title>", page.read(100_000).decode(errors="replace"), re.DOTALL)
    return found[1].strip() if found else None


# --8<-- [end:task]
# --8<-- [start:cron]
@kit.cron("0 8 * * mon", timezone="Europe/Zurich")
async def send_digests(ctx: TaskContext) -> None:
    async with ctx.read_session() as db:
        kept = select(Bookmark.owner_id).where(Bookmark.created_at > datetime.now(UTC) - timedelta(days=7))
        people = list(await db.scalars(select(User).where(User.id.in_(kept))))
    for person in people:
        text = "You kept new pages last week. Have you read them?"
        await ctx.mailer.send(Mail(to=person.email, subject="Your week", text=text))


# --8<-- [end:cron]
app, broker = kit.app, kit.broker
