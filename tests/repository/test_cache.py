"""Cached values are invalidated after a commit."""

import pytest
from fastapi import FastAPI

from appkit.core.cache import Cache
from appkit.exceptions import AppKitError
from appkit.kit import AppKit
from appkit.repository.context import invalidate
from appkit.repository.database import Database
from appkit.service.base import BaseService


@pytest.fixture
async def cache(kit: AppKit, app: FastAPI) -> Cache:
    await kit.cache.set("key", 1, ttl=60, tags=["posts"])
    return kit.cache


async def test_invalidation_waits_for_the_commit(kit, cache):
    async with kit.session() as db:
        invalidate(db, "posts")
        assert await cache.get("key", int) == 1
    assert await cache.get("key", int) is None


async def test_rollback_invalidates_nothing(kit, cache):
    async def fail() -> None:
        async with kit.session() as db:
            invalidate(db, "posts")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await cache.get("key", int) == 1


async def test_savepoint_that_is_rolled_back_invalidates_nothing(kit, cache):
    async with kit.session() as db, db.begin_nested() as savepoint:
        invalidate(db, "posts")
        await savepoint.rollback()
    assert await cache.get("key", int) == 1


async def test_service_has_the_apps_cache(kit, cache):
    async with kit.session() as db:
        assert BaseService(db).cache is cache


async def test_session_of_no_app_has_no_cache(database_url):
    database = Database(database_url)
    async with database.session() as db:
        with pytest.raises(AppKitError, match="belongs to no app"):
            invalidate(db, "posts")
    await database.dispose()
