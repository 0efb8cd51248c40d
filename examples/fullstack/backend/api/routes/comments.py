"""Comments, under /posts/{post_id}/comments."""

from typing import Annotated
from uuid import UUID

from appkit import CurrentUser, CursorPage, CursorQuery, DbSession, OptionalUser, errors
from fastapi import APIRouter, Query

from api.schemas import CommentCreate, CommentSchema
from exceptions import NotPublishedException, PostNotFoundException
from service.comments import CommentService

router = APIRouter(prefix="/posts/{post_id}/comments", tags=["comments"])


@router.get("", responses=errors(PostNotFoundException))
async def list_comments(
    post_id: UUID, page: Annotated[CursorQuery, Query()], user: OptionalUser, db: DbSession
) -> CursorPage[CommentSchema]:
    """List the comments on a post, oldest first."""
    reader_id = user.id if user else None
    comments = await CommentService(db).on_post(post_id, reader_id, page)
    return CursorPage[CommentSchema].model_validate(comments)


@router.post("", status_code=201, responses=errors(NotPublishedException, PostNotFoundException))
async def add_comment(post_id: UUID, payload: CommentCreate, user: CurrentUser, db: DbSession) -> CommentSchema:
    """Comment on a published post."""
    return CommentSchema.model_validate(await CommentService(db).add(post_id, user.id, payload.content))
