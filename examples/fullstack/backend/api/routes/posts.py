"""Posts, under /posts."""

from typing import Annotated
from uuid import UUID

from appkit import CurrentUser, CursorPage, DbSession, OptionalUser, Page, ReadSession, errors
from appkit.exceptions import StaleVersionException
from fastapi import APIRouter, Query

from api.schemas import FiguresSchema, PostCreate, PostSchema, PostUpdate
from exceptions import AlreadyPublishedException, NotYourPostException, PostNotFoundException
from repository.queries import FeedQuery, OwnPostsQuery
from service.posts import PostService

router = APIRouter(prefix="/posts", tags=["posts"])


@router.get("")
async def list_posts(query: Annotated[FeedQuery, Query()], db: ReadSession) -> CursorPage[PostSchema]:
    """List published posts, newest first."""
    return CursorPage[PostSchema].model_validate(await PostService(db).published(query))


@router.get("/mine")
async def list_my_posts(query: Annotated[OwnPostsQuery, Query()], user: CurrentUser, db: DbSession) -> Page[PostSchema]:
    """List your own posts, drafts included."""
    return Page[PostSchema].model_validate(await PostService(db).written_by(user.id, query))


@router.get("/mine/figures")
async def count_my_posts(user: CurrentUser, db: DbSession) -> FiguresSchema:
    """Count your drafts, your published posts, and the comments on them."""
    return FiguresSchema.model_validate(await PostService(db).figures(user.id))


@router.post("", status_code=201)
async def write_post(payload: PostCreate, user: CurrentUser, db: DbSession) -> PostSchema:
    """Create a draft."""
    post = await PostService(db).write(user.id, payload.title, payload.subtitle, payload.content)
    return PostSchema.model_validate(post)


@router.get("/{post_id}", responses=errors(PostNotFoundException))
async def read_post(post_id: UUID, user: OptionalUser, db: DbSession) -> PostSchema:
    """Get a published post, or your own draft."""
    return PostSchema.model_validate(await PostService(db).read(post_id, user.id if user else None))


@router.patch("/{post_id}", responses=errors(NotYourPostException, PostNotFoundException, StaleVersionException))
async def edit_post(post_id: UUID, payload: PostUpdate, user: CurrentUser, db: DbSession) -> PostSchema:
    """Change your own post."""
    changes = payload.model_dump(exclude_unset=True, exclude={"version"})
    return PostSchema.model_validate(await PostService(db).edit(post_id, user.id, changes, payload.version))


@router.post(
    "/{post_id}/publish", responses=errors(AlreadyPublishedException, NotYourPostException, PostNotFoundException)
)
async def publish_post(post_id: UUID, user: CurrentUser, db: DbSession) -> PostSchema:
    """Publish your own draft."""
    return PostSchema.model_validate(await PostService(db).publish(post_id, user.id))


@router.delete("/{post_id}", status_code=204, responses=errors(NotYourPostException, PostNotFoundException))
async def delete_post(post_id: UUID, user: CurrentUser, db: DbSession) -> None:
    """Delete your own post."""
    await PostService(db).remove(post_id, user.id)
