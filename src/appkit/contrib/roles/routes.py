"""Routes to define roles and grant them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import Field

from appkit import CurrentSuperuser, CurrentUser, DbSession, Schema, errors
from appkit.contrib.roles.service import RoleService
from appkit.exceptions import ForbiddenException, NotFoundException, ScopeMissingException

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Permission = Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9_-]*(:[a-z][a-z0-9_-]*)*(:\*)?)$", max_length=100)]


class PermissionsSchema(Schema, extra="forbid"):
    """The permissions of a role."""

    permissions: Annotated[list[Permission], Field(max_length=200)]


class RoleSchema(Schema):
    """A role and its permissions."""

    name: str
    permissions: list[str]


router = APIRouter(tags=["roles"], responses=errors(ForbiddenException))
RoleName = Annotated[Name, Path()]


@router.get("/auth/me/roles", responses=errors(ScopeMissingException))
async def list_my_roles(user: CurrentUser, db: DbSession) -> list[RoleSchema]:
    """List your roles and their permissions."""
    return [RoleSchema.model_validate(role) for role in await RoleService(db).of(user.id)]


@router.get("/roles")
async def list_roles(_: CurrentSuperuser, db: DbSession) -> list[RoleSchema]:
    """List all roles. For superusers only."""
    return [RoleSchema.model_validate(role) for role in await RoleService(db).all()]


@router.put("/roles/{name}")
async def define_role(name: RoleName, payload: PermissionsSchema, by: CurrentSuperuser, db: DbSession) -> RoleSchema:
    """Create a role, or replace its permissions. For superusers only."""
    return RoleSchema.model_validate(await RoleService(db).define(name, payload.permissions, by=by.id))


@router.delete("/roles/{name}", status_code=204, responses=errors(NotFoundException))
async def remove_role(name: RoleName, by: CurrentSuperuser, db: DbSession) -> None:
    """Delete a role, and withdraw it from everybody. For superusers only."""
    await RoleService(db).remove(name, by=by.id)


@router.get("/users/{user_id}/roles")
async def list_user_roles(user_id: UUID, _: CurrentSuperuser, db: DbSession) -> list[RoleSchema]:
    """List the roles of a user. For superusers only."""
    return [RoleSchema.model_validate(role) for role in await RoleService(db).of(user_id)]


@router.put("/users/{user_id}/roles/{name}", status_code=204, responses=errors(NotFoundException))
async def grant_role(user_id: UUID, name: RoleName, by: CurrentSuperuser, db: DbSession) -> None:
    """Grant a user a role. For superusers only."""
    await RoleService(db).grant(user_id, name, by=by.id)


@router.delete("/users/{user_id}/roles/{name}", status_code=204, responses=errors(NotFoundException))
async def withdraw_role(user_id: UUID, name: RoleName, by: CurrentSuperuser, db: DbSession) -> None:
    """Withdraw a role from a user. For superusers only."""
    await RoleService(db).withdraw(user_id, name, by=by.id)
