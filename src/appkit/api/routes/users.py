"""Routes for superusers to list, disable and enable users, and to end their sign-in sessions."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from appkit.api.dependencies import CurrentPrincipal, CurrentSuperuser, DbSession, get_superuser
from appkit.api.errors import errors
from appkit.api.schemas import SessionSchema, UserAdminSchema, UserQuery
from appkit.exceptions import ConflictException, ForbiddenException, NotFoundException
from appkit.repository.pagination import CursorPage
from appkit.service.sessions import SessionService
from appkit.service.users import UserService

users_router = APIRouter(
    prefix="/users", tags=["users"], dependencies=[Depends(get_superuser)], responses=errors(ForbiddenException)
)


@users_router.get("")
async def list_users(db: DbSession, query: Annotated[UserQuery, Query()]) -> CursorPage[UserAdminSchema]:
    """The users, newest first."""
    return CursorPage[UserAdminSchema].model_validate(await UserService(db).page(**query.model_dump()))


@users_router.get("/{user_id}", responses=errors(NotFoundException))
async def get_user(user_id: UUID, db: DbSession) -> UserAdminSchema:
    """One user."""
    return UserAdminSchema.model_validate(await UserService(db).get(user_id))


@users_router.post("/{user_id}/disable", responses=errors(NotFoundException, ConflictException))
async def disable_user(user_id: UUID, superuser: CurrentSuperuser, db: DbSession) -> UserAdminSchema:
    """Disable a user, and end all sign-in sessions of the user."""
    return UserAdminSchema.model_validate(await UserService(db).disable(user_id, by=superuser.id))


@users_router.post("/{user_id}/enable", responses=errors(NotFoundException))
async def enable_user(user_id: UUID, superuser: CurrentSuperuser, db: DbSession) -> UserAdminSchema:
    """Enable a disabled user. The user must sign in again."""
    return UserAdminSchema.model_validate(await UserService(db).enable(user_id, by=superuser.id))


@users_router.post("/{user_id}/reset-password", status_code=202, responses=errors(NotFoundException))
async def reset_user_password(user_id: UUID, superuser: CurrentSuperuser, db: DbSession) -> None:
    """Remove a user's password, end all sign-in sessions, and mail the user a link to set a new password."""
    await UserService(db).force_reset(user_id, by=superuser.id)


@users_router.get("/{user_id}/sessions", responses=errors(NotFoundException))
async def list_user_sessions(user_id: UUID, principal: CurrentPrincipal, db: DbSession) -> list[SessionSchema]:
    """The live sign-in sessions of a user, sorted by the last use, latest first."""
    await UserService(db).get(user_id)
    return [SessionSchema.of(session, principal) for session in await SessionService(db).live(user_id)]


@users_router.post("/{user_id}/sessions/revoke", status_code=204, responses=errors(NotFoundException))
async def revoke_user_sessions(user_id: UUID, superuser: CurrentSuperuser, db: DbSession) -> None:
    """End all sign-in sessions of a user."""
    await UserService(db).get(user_id)
    await SessionService(db).revoke_all(user_id, by=superuser.id)
