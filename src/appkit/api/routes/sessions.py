"""The devices that somebody is signed in on, and ending their sessions."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from appkit.api.dependencies import CurrentUser, DbSession, SignedInPrincipal, require
from appkit.api.errors import errors
from appkit.api.schemas import SessionSchema
from appkit.exceptions import (
    NotFoundException,
    ReauthenticationRequiredException,
    SessionRevokedException,
    TokenExpiredException,
    UnauthorizedException,
)
from appkit.service.sessions import SessionService

sessions_router = APIRouter(
    prefix="/sessions",
    responses=errors(UnauthorizedException, TokenExpiredException, SessionRevokedException),
)

# OWASP ASVS 7.5.2: who takes over a browser must not be able to lock its owner out with it.
FreshUser = Annotated[object, Depends(require(fresh=True))]


@sessions_router.get("")
async def list_sessions(user: CurrentUser, principal: SignedInPrincipal, db: DbSession) -> list[SessionSchema]:
    """Your live sessions, the one seen last first."""
    return [SessionSchema.of(session, principal) for session in await SessionService(db).live(user.id)]


@sessions_router.delete(
    "/{session_id}", status_code=204, responses=errors(ReauthenticationRequiredException, NotFoundException)
)
async def revoke_session(session_id: UUID, _: FreshUser, principal: SignedInPrincipal, db: DbSession) -> None:
    """End one of your sessions at once."""
    await SessionService(db).revoke(session_id, owner_id=principal.user_id)


@sessions_router.post("/revoke-others", status_code=204, responses=errors(ReauthenticationRequiredException))
async def revoke_other_sessions(_: FreshUser, principal: SignedInPrincipal, db: DbSession) -> None:
    """End all of your sessions but this one at once."""
    await SessionService(db).revoke_others(principal)
