"""API keys for programs. Each key belongs to a user, and may have scopes and a lifetime.

Turn it on with `AppKit(plugins=[api_keys])`. It needs no further package.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter
from fastapi.requests import HTTPConnection
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from appkit import AppKit, BaseUser, Principal, SettingsGroup, TaskContext, TaskRouter, UserDeleted, app_of, hookimpl
from appkit.contrib.api_keys.routes import ApiKeySchema, router
from appkit.contrib.api_keys.service import ApiKey, ApiKeyService, ApiKeysSettings, record_use

tasks = TaskRouter()


@tasks.on(UserDeleted, name="appkit.api_keys:forget")
async def delete_api_keys(event: UserDeleted, task: TaskContext) -> None:
    """Delete the API keys of a deleted user."""
    async with task.session() as db:
        await db.execute(delete(ApiKey).where(ApiKey.user_id == event.user_id))


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """Read `API_KEYS_…`."""
    return {"api_keys": ApiKeysSettings}


@hookimpl
def register_routers() -> list[APIRouter]:
    """Serve `/auth/api-keys`."""
    return [router]


@hookimpl
def register_tasks() -> list[TaskRouter]:
    """Add the task that deletes the keys of deleted users."""
    return [tasks]


@hookimpl
@asynccontextmanager
async def lifespan(kit: AppKit) -> AsyncIterator[None]:
    """Before the app stops, wait until the last uses of keys are recorded."""
    yield
    if writes := kit.context.resources.get(ApiKey):
        await asyncio.wait(writes)


@hookimpl
async def authenticate(request: HTTPConnection, db: AsyncSession) -> Principal | None:
    """Authenticate a request with `Authorization: Bearer ak_…`. Other tokens are left to other plugins."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.startswith("ak_"):
        return None
    row = await ApiKeyService(db).use(key)
    record_use(app_of(request), row)
    scopes = None if row.scopes is None else frozenset(row.scopes)
    return Principal(user_id=row.user_id, scopes=scopes, expires_at=row.expires_at)


@hookimpl
async def export_account(user: BaseUser, db: AsyncSession) -> list[tuple[str, Any]]:
    """Add the user's API keys, without the keys themselves."""
    return [("api_keys", [ApiKeySchema.of(row, user).model_dump() for row in await ApiKeyService(db).all(user.id)])]
