"""One's own account: what it says, a copy of all that is kept, and its end."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, create_model

from appkit.api.cookies import clear_cookies
from appkit.api.dependencies import CurrentUser, DbSession, SignedInPrincipal, app_of, require
from appkit.api.errors import errors
from appkit.api.schemas import InputSchema, UserSchema
from appkit.exceptions import (
    ReauthenticationRequiredException,
    SessionRequiredException,
    SessionRevokedException,
    TokenExpiredException,
    UnauthorizedException,
)
from appkit.repository.user import BaseUser
from appkit.service.accounts import AccountService

FreshUser = Annotated[BaseUser, Depends(require(fresh=True))]


def create_me_router(profile: type[BaseModel]) -> APIRouter:
    """The routes of one's own account.

    Args:
        profile: What people may read and change of it, besides what every account has.
    """
    router = APIRouter(
        prefix="/me", responses=errors(UnauthorizedException, TokenExpiredException, SessionRevokedException)
    )
    shown: Any = create_model("MeSchema", __base__=(UserSchema, profile)) if profile.model_fields else UserSchema
    written: Any = create_model("ProfileSchema", __base__=(profile, InputSchema))

    @router.get("", response_model=shown)
    async def me(user: CurrentUser) -> Any:
        """The person who is signed in."""
        return user

    async def change_me(payload: Any, user: CurrentUser, _: SignedInPrincipal, db: DbSession) -> Any:
        """Change what you say of yourself; what is left out stays as it is."""
        return await AccountService(db).change(user.id, payload.model_dump(exclude_unset=True))

    change_me.__annotations__["payload"] = written
    router.patch("", response_model=shown, responses=errors(SessionRequiredException))(change_me)

    @router.delete("", status_code=204, responses=errors(ReauthenticationRequiredException))
    async def delete_me(request: Request, response: Response, user: FreshUser, db: DbSession) -> None:
        """Delete your account, and sign out everywhere."""
        await AccountService(db).delete_account(user.id)
        clear_cookies(response, app_of(request).settings)

    @router.get("/export", responses=errors(SessionRequiredException))
    async def export_me(user: CurrentUser, _: SignedInPrincipal, response: Response, db: DbSession) -> dict[str, Any]:
        """Everything that is kept about you, to download."""
        response.headers["Content-Disposition"] = 'attachment; filename="account.json"'
        found: dict[str, Any] = jsonable_encoder(await AccountService(db).export(user))
        return found

    return router
