"""bookmarks.py: a table, a rule, a route, and a task that runs after the commit."""

from uuid import UUID

from fastapi import APIRouter
from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, mapped_column

from appkit import AppKit, BaseService, BaseTableModel, ConflictException, CurrentUser, DbSession, Event, Schema

router = APIRouter(prefix="/bookmarks", tags=["bookmarks"])
kit = AppKit(routers=[router])  # settings from the environment, plugins from the installed packages


class Bookmark(BaseTableModel):
    url: Mapped[str]
    title: Mapped[str | None]
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("user.id"), index=True)


class AlreadyBookmarkedException(ConflictException):
    """The signed-in person already keeps this page."""

    internal_code = 40901
    detail = "You already keep this page."


class BookmarkAdded(Event):
    bookmark_id: UUID


class BookmarkService(BaseService):
    async def add(self, owner_id: UUID, url: str) -> Bookmark:
        if await self.db.scalar(select(Bookmark).filter_by(owner_id=owner_id, url=url)):
            raise AlreadyBookmarkedException
        bookmark = await self.save(Bookmark(owner_id=owner_id, url=url))
        self.emit(BookmarkAdded(bookmark_id=bookmark.id))
        return bookmark


class BookmarkSchema(Schema):
    url: str


@router.post("", status_code=201)
async def add_bookmark(payload: BookmarkSchema, user: CurrentUser, db: DbSession) -> BookmarkSchema:
    return BookmarkSchema.model_validate(await BookmarkService(db).add(user.id, payload.url))


@kit.on(BookmarkAdded)
async def fetch_title(event: BookmarkAdded) -> None:
    async with kit.session() as db:
        (await db.get_one(Bookmark, event.bookmark_id)).title = "fetched"


app, broker = kit.app, kit.broker
