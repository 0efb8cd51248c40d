"""A front page that is cached for a minute, and invalidated when a post is added."""

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Mapped

from appkit import AppKit, BaseService, BaseTableModel, DbSession, Schema, invalidate

router = APIRouter(prefix="/posts")
kit = AppKit(routers=[router])


class Post(BaseTableModel):
    title: Mapped[str]


class PostSchema(Schema):
    title: str


async def load_front_page() -> list[PostSchema]:
    async with kit.database.read_session() as db:
        posts = await db.scalars(select(Post).order_by(Post.id.desc()).limit(20))
        return [PostSchema.model_validate(post) for post in posts]


class PostService(BaseService):
    async def front_page(self) -> list[PostSchema]:
        return await self.cache.get_or_set("front", load_front_page, list[PostSchema], ttl=60, tags=["posts"])

    async def add(self, title: str) -> Post:
        invalidate(self.db, "posts")
        return await self.save(Post(title=title))


@router.get("")
async def read_front_page(db: DbSession) -> list[PostSchema]:
    return await PostService(db).front_page()


@router.post("", status_code=201)
async def add_post(payload: PostSchema, db: DbSession) -> PostSchema:
    return PostSchema.model_validate(await PostService(db).add(payload.title))


app = kit.app
