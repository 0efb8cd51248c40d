"""The administration of users: for superusers only."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from appkit.api.dependencies import CurrentSuperuser, DbSession, get_superuser
from appkit.api.errors import errors
from appkit.api.schemas import UserAdminSchema
from appkit.exceptions import ConflictException, ForbiddenException, NotFoundException, UnauthorizedException
from appkit.repository.pagination import CursorPage
from appkit.service.users import UserService

users_router = APIRouter(
    prefix="/users",
    tags=["users"],
    dependencies=[Depends(get_superuser)],
    responses=errors(UnauthorizedException, ForbiddenException),
)


@users_router.get("")
async def list_users(
    db: DbSession, cursor: str | None = None, size: Annotated[int, Query(ge=1, le=200)] = 50
) -> CursorPage[UserAdminSchema]:
    """The users, the youngest first."""
    page = await UserService(db).page(cursor=cursor, size=size)
    return CursorPage[UserAdminSchema].model_validate(page)


@users_router.get("/{user_id}", responses=errors(NotFoundException))
async def get_user(user_id: UUID, db: DbSession) -> UserAdminSchema:
    """One user."""
    return UserAdminSchema.model_validate(await UserService(db).get(user_id))


@users_router.post("/{user_id}/disable", responses=errors(NotFoundException, ConflictException))
async def disable_user(user_id: UUID, superuser: CurrentSuperuser, db: DbSession) -> UserAdminSchema:
    """Lock someone out: all their sessions end at once."""
    return UserAdminSchema.model_validate(await UserService(db).disable(user_id, by=superuser.id))


@users_router.post("/{user_id}/enable", responses=errors(NotFoundException))
async def enable_user(user_id: UUID, db: DbSession) -> UserAdminSchema:
    """Let someone sign in again; their old sessions stay ended."""
    return UserAdminSchema.model_validate(await UserService(db).enable(user_id))
