"""What type checkers know of rows, pages and schemas, without a cast. Checked, never run."""

from collections.abc import AsyncIterator, Sequence
from functools import cached_property
from typing import ClassVar, assert_type

from pydantic import BaseModel
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, selectinload

from appkit import (
    Authored,
    BaseTableModel,
    CRUDService,
    CursorPage,
    CursorQuery,
    IntBaseTableModel,
    KeysetPage,
    OffsetPage,
    Page,
    PageQuery,
    Repository,
    Schema,
    SoftDelete,
    Versioned,
    crud_router,
)


class Post(SoftDelete, Versioned, Authored, BaseTableModel):
    title: Mapped[str]
    stars: Mapped[int]


class Visit(IntBaseTableModel):
    path: Mapped[str]


class PostSchema(Schema):
    title: str


class PostCreate(BaseModel):
    title: str


class PostUpdate(BaseModel):
    title: str = ""


class PostQuery(PageQuery):
    sortable = {"title": Post.title, "stars": Post.stars}  # noqa: RUF012 - both ways of saying it must pass


class PostCursor(CursorQuery):
    sortable: ClassVar = {"title": Post.title, "stars": Post.stars}
    default_sort = "-stars"


class PostRepository(Repository[Post]):
    def select(self) -> Select[Post]:
        return super().select().where(Post.stars > 3).options(selectinload("*"))

    async def best(self) -> Post | None:
        return await self.first(order=[Post.stars.desc(), Post.title])


class PostService(CRUDService[Post, PostCreate, PostUpdate]):
    @cached_property
    def repository(self) -> PostRepository:
        return PostRepository(self.db)

    async def before_create(self, row: Post, data: PostCreate) -> None:
        row.title = data.title

    async def after_page(self, rows: Sequence[Post]) -> None:
        assert_type(rows[0].title, str)


async def repository_knows_its_rows(db: AsyncSession) -> None:
    posts = Repository[Post](db)
    post = await posts.get(1)
    assert_type(post, Post)
    assert_type(post.version, int)
    assert_type(await posts.get_or_none(1), Post | None)
    assert_type(await posts.first(Post.title == "x"), Post | None)
    assert_type(await posts.one(Post.title == "x", Post.deleted_at.is_(None)), Post)
    assert_type(await posts.list(Post.title.in_(["x"]), order=[Post.title, Post.stars.desc()]), Sequence[Post])
    assert_type(await posts.page(PostQuery()), OffsetPage[Post])
    assert_type(await posts.page(PostCursor(), Post.stars > 3), KeysetPage[Post])
    assert_type((await posts.page(PostCursor())).items, list[Post])
    assert_type(posts.stream(), AsyncIterator[Post])
    assert_type(await posts.count(), int)
    assert_type(await posts.create(PostCreate(title="x"), stars=1), Post)
    assert_type(await posts.create_many([{"title": "x"}, PostCreate(title="x"), post]), Sequence[Post])
    assert_type(await posts.update(post, PostUpdate(), expected_version=1), Post)
    assert_type(await posts.upsert([{"title": "x"}], on=[Post.title]), Sequence[Post])
    assert_type(await posts.get_or_create({"title": "x"}, on=[Post.title]), tuple[Post, bool])
    assert_type(await posts.restore(post), Post)
    assert_type(await posts.delete_where(Post.stars == 0), int)
    assert_type(posts.model, type[Post])
    assert_type(await Repository(db, Visit).get(1), Visit)
    assert_type((await Repository(db, Visit).get(1)).id, int)
    assert_type(await PostRepository(db).best(), Post | None)


async def service_knows_its_rows_and_schemas(db: AsyncSession) -> None:
    service = PostService(db)
    assert_type(await service.get(1), Post)
    assert_type(await service.page(PostQuery()), OffsetPage[Post])
    assert_type(await service.page(PostCursor()), KeysetPage[Post])
    assert_type(await service.create(PostCreate(title="x")), Post)
    assert_type(await service.update(1, PostUpdate()), Post)
    assert_type(await service.repository.best(), Post | None)
    plain = CRUDService[Post, PostCreate, PostUpdate](db)
    assert_type(await plain.get(1), Post)
    await service.create(PostUpdate())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def pages_know_their_schemas(db: AsyncSession) -> None:
    page = Page[PostSchema].model_validate(await PostService(db).page(PostQuery()))
    assert_type(page.items, list[PostSchema])
    assert_type(page.total, int | None)
    cursor = CursorPage[PostSchema].model_validate(await PostService(db).page(PostCursor()))
    assert_type(cursor.items[0].title, str)
    assert_type(cursor.next_cursor, str | None)


crud_router(PostService, read=PostSchema, create=PostCreate, update=PostUpdate, query=PostQuery, prefix="/posts")
crud_router(
    CRUDService[Post, PostCreate, PostUpdate],
    read=PostSchema,
    query=PostCursor,
    prefix="/posts",
    actions=["list", "get"],
)
crud_router(  # type: ignore[misc]
    PostService,  # pyright: ignore[reportArgumentType]
    read=PostSchema,
    create=PostUpdate,
    query=PostQuery,
    prefix="/posts",
    actions=["create"],
)
