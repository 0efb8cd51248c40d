"""The app that `test_crash.py` kills. It has bookmarks, and two tasks for each bookmark."""

import asyncio
from random import random
from uuid import UUID

from fastapi import APIRouter
from sqlalchemy.orm import Mapped

from appkit import AppKit, BaseService, BaseTableModel, DbSession, Event, Schema, TaskSession

router = APIRouter(prefix="/bookmarks")
kit = AppKit(routers=[router], discover=False)


class Bookmark(BaseTableModel):
    url: Mapped[str]


class Fetched(BaseTableModel):
    """The effect of a task in the transaction that settled the row."""

    bookmark_id: Mapped[UUID]


class Noticed(BaseTableModel):
    """The effect of a task in a separate transaction. It may be repeated."""

    bookmark_id: Mapped[UUID]


class BookmarkAdded(Event):
    bookmark_id: UUID


class BookmarkSchema(Schema):
    url: str


@router.post("", status_code=201)
async def add_bookmark(payload: BookmarkSchema, db: DbSession) -> BookmarkSchema:
    service = BaseService(db)
    bookmark = await service.save(Bookmark(url=payload.url))
    service.emit(BookmarkAdded(bookmark_id=bookmark.id))
    return payload


@kit.on(BookmarkAdded)
async def fetch_title(event: BookmarkAdded, db: TaskSession) -> None:
    await asyncio.sleep(random())
    db.add(Fetched(bookmark_id=event.bookmark_id))
    await db.flush()
    await asyncio.sleep(random() / 20)


@kit.on(BookmarkAdded)
async def notice(event: BookmarkAdded) -> None:
    await asyncio.sleep(random())
    async with kit.session() as db:
        db.add(Noticed(bookmark_id=event.bookmark_id))


app, broker = kit.app, kit.broker
