"""A blog: a keyset page, an offset page, and a search."""

from datetime import datetime
from enum import Enum
from typing import Annotated, ClassVar
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import Index, Select
from sqlalchemy.orm import Mapped

from appkit import (
    AppKit,
    BaseTableModel,
    CursorPage,
    CursorQuery,
    Page,
    PageQuery,
    ReadSession,
    Repository,
    Schema,
    Where,
)
from appkit.repository.filters import search_vector


class Topic(Enum):
    FOOD = "food"
    TRAVEL = "travel"


class Post(BaseTableModel):
    title: Mapped[str]
    content: Mapped[str]
    topic: Mapped[Topic]
    published_at: Mapped[datetime | None]


Index("ix_post_search", search_vector(Post.title, Post.content, language="english"), postgresql_using="gin").ddl_if(
    dialect="postgresql"
)


class PostSchema(Schema):
    id: UUID
    title: str
    topic: Topic


class PostFilters(BaseModel):
    topic: Annotated[list[Topic] | None, Where(Post.topic.in_)] = None
    since: Annotated[datetime | None, Where(lambda moment: Post.published_at >= moment)] = None
    q: Annotated[str | None, Where.search(Post.title, Post.content, language="english")] = None


class PostFeed(CursorQuery, PostFilters):
    sortable: ClassVar = {"title": Post.title, "created": Post.created_at}
    default_sort = "-created"


class PostTable(PageQuery, PostFilters):
    sortable: ClassVar = {"title": Post.title, "created": Post.created_at, "published": Post.published_at}
    default_sort = "title"
    count = "capped"


class PublishedPosts(Repository[Post]):
    def select(self) -> Select[Post]:
        return super().select().where(Post.published_at.is_not(None))


router = APIRouter(prefix="/posts", tags=["posts"])


@router.get("")
async def feed(query: Annotated[PostFeed, Query()], db: ReadSession) -> CursorPage[PostSchema]:
    return CursorPage[PostSchema].model_validate(await PublishedPosts(db).page(query))


@router.get("/table")
async def table(query: Annotated[PostTable, Query()], db: ReadSession) -> Page[PostSchema]:
    return Page[PostSchema].model_validate(await Repository[Post](db).page(query))


kit = AppKit(routers=[router])
app, broker = kit.app, kit.broker
