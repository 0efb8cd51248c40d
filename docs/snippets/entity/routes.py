"""Applause, under /posts/{post_id}/applause."""

from uuid import UUID

from appkit import CurrentUser, DbSession, errors
from fastapi import APIRouter

from api.schemas import ApplauseSchema
from exceptions import PostNotFoundException
from service.applause import ApplauseService

router = APIRouter(prefix="/posts/{post_id}/applause", tags=["applause"])


@router.post("", responses=errors(PostNotFoundException))
async def applaud(post_id: UUID, user: CurrentUser, db: DbSession) -> ApplauseSchema:
    """Applaud a post."""
    return ApplauseSchema(count=await ApplauseService(db).give(post_id, user.id))
