"""The plugin api_keys, on both databases."""

import asyncio
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends
from sqlalchemy import func, select, update

from appkit import BaseUser, CurrentUser, require
from appkit.contrib import api_keys
from appkit.contrib.api_keys.service import (
    MAX_KEYS,
    ApiKey,
    ApiKeyCreated,
    ApiKeyRevoked,
    ApiKeyService,
    ApiKeysSettings,
    InvalidApiKeyException,
    TooManyApiKeysException,
    new_key,
    record_use,
)
from appkit.exceptions import (
    EmailNotVerifiedException,
    NotFoundException,
    ReauthenticationRequiredException,
    ScopeMissingException,
    ServiceUnavailableException,
    SessionRequiredException,
    UnprocessableException,
)
from appkit.kit import AppKit
from appkit.repository.plain_user import User
from appkit.testing.kits import rebuilt
from appkit.testing.plugin import PASSWORD

router = APIRouter(prefix="/probe")


@router.get("/user")
@router.post("/user")
async def read_user(user: CurrentUser) -> str:
    return user.email


@router.get("/scoped")
async def read_scoped(user: Annotated[BaseUser, Depends(require(scopes={"posts:read"}))]) -> str:
    return user.email


@pytest.fixture
def kit(settings):
    with rebuilt(AppKit(routers=[router], plugins=[api_keys], discover=False), settings) as kit:
        yield kit


@pytest.fixture
async def user(user, db):
    """A user with a verified e-mail address."""
    verified = await db.merge(user)
    verified.email_verified_at = datetime.now(UTC)
    await db.commit()
    return verified


@pytest.fixture
def create(auth_client):
    async def create(**payload):
        response = await auth_client.post("/api/auth/api-keys", json={"name": "CI", **payload})
        assert response.status_code == 201, response.text
        return response.json()

    return create


@pytest.fixture
def finish(kit):
    """Wait until the uses of keys are recorded."""

    async def finish():
        if writes := kit.context.resources.get(ApiKey):
            await asyncio.wait(writes)

    return finish


@pytest.fixture
def call(client):
    async def call(key, path="/api/probe/user", method="GET", **more):
        return await client.request(method, path, headers={"Authorization": f"Bearer {key}"}, **more)

    return call


async def test_api_key_acts_as_its_owner(create, call, finish, auth_client, user, events):
    made = await create()
    assert (await call(made["key"])).json() == user.email
    assert (await call(made["key"], method="POST")).json() == user.email
    await finish()
    (listed,) = (await auth_client.get("/api/auth/api-keys")).json()
    assert listed.pop("last_used_at") is not None
    assert {**listed, "last_used_at": None, "key": made["key"]} == made
    assert listed["valid"]
    assert made["key"].startswith(listed["prefix"])
    assert ApiKeyCreated in map(type, events)


async def test_api_key_is_stored_as_a_hash(create, db):
    made = await create()
    row = await db.scalar(select(ApiKey))
    assert made["key"][11:] not in str(vars(row))


async def test_api_key_with_scopes_is_limited_to_them(create, call, user, assert_error):
    right, wrong, full = (await create(scopes=["posts:read"]), await create(scopes=["posts:write"]), await create())
    assert (await call(right["key"], "/api/probe/scoped")).json() == user.email
    assert (await call(full["key"], "/api/probe/scoped")).json() == user.email
    assert_error(await call(wrong["key"], "/api/probe/scoped"), ScopeMissingException)
    assert_error(await call(right["key"]), ScopeMissingException)


async def test_unknown_scope_is_refused(kit, auth_client, create, assert_error):
    kit.context.settings = kit.settings.model_copy(update={"api_keys": ApiKeysSettings(scopes=("posts:read",))})
    refused = await auth_client.post("/api/auth/api-keys", json={"name": "CI", "scopes": ["posts:raed"]})
    assert "posts:raed" in assert_error(refused, UnprocessableException)["detail"]
    assert (await create(scopes=["posts:read"]))["scopes"] == ["posts:read"]


async def test_api_key_expires(create, call, auth_client, db, assert_error):
    made = await create(days=1)
    await db.execute(update(ApiKey).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert_error(await call(made["key"]), InvalidApiKeyException)
    assert not (await auth_client.get("/api/auth/api-keys")).json()[0]["valid"]
    assert (await create(days=None))["expires_at"] is None


async def test_revoked_api_key_is_void_immediately(create, call, auth_client, events, assert_error):
    made = await create()
    assert (await auth_client.delete(f"/api/auth/api-keys/{made['id']}")).status_code == 204
    assert_error(await call(made["key"]), InvalidApiKeyException)
    assert_error(await auth_client.delete(f"/api/auth/api-keys/{made['id']}"), NotFoundException)
    assert ApiKeyRevoked in map(type, events)


async def test_api_keys_of_another_user_are_hidden(create, call, client, make_user, admin_client, assert_error):
    made = await create()
    assert (await admin_client.get("/api/auth/api-keys")).json() == []
    assert_error(await admin_client.delete(f"/api/auth/api-keys/{made['id']}"), NotFoundException)
    assert (await call(made["key"])).status_code == 200


@pytest.mark.parametrize("values", [{"is_active": False}, {"deleted_at": datetime.now(UTC)}, {"security_version": 9}])
async def test_api_key_is_void_when_its_owner_s_sessions_end(create, call, db, values, assert_error):
    made = await create()
    await db.execute(update(User).values(values))
    assert_error(await call(made["key"]), InvalidApiKeyException)


async def test_new_password_voids_api_keys(create, call, auth_client, assert_error):
    made = await create()
    body = {"current": PASSWORD, "new": "another long password"}
    assert (await auth_client.post("/api/auth/password/change", json=body)).is_success
    assert_error(await call(made["key"]), InvalidApiKeyException)
    assert [key["valid"] for key in (await auth_client.get("/api/auth/api-keys")).json()] == [False]


def broken(key: str) -> str:
    return key[:-1] + ("0" if key[-1] != "0" else "1")


async def test_unknown_and_mistyped_api_keys_are_refused(create, call, auth_client, count_queries, assert_error):
    made = await create()
    for key in (new_key(), "ak_", "ak_ä", f"{made['key']}0"):
        headers = {"Authorization": f"Bearer {key}".encode()}
        # Refused although the cookie is valid, because the bearer token takes precedence.
        assert_error(await auth_client.get("/api/probe/user", headers=headers), InvalidApiKeyException)
    with count_queries(max=0):
        assert_error(await call(broken(made["key"])), InvalidApiKeyException)


async def test_api_key_cannot_manage_api_keys(create, call, db, assert_error):
    key = (await create())["key"]
    path = "/api/auth/api-keys"
    assert_error(await call(key, path, "POST", json={"name": "more"}), ReauthenticationRequiredException)
    assert_error(await call(key, path), SessionRequiredException)
    assert_error(await call(key, f"{path}/{(await db.scalar(select(ApiKey.id)))}", "DELETE"), SessionRequiredException)
    assert await db.scalar(select(func.count()).select_from(ApiKey)) == 1


async def test_api_key_requires_a_verified_address(auth_client, db, assert_error):
    await db.execute(update(User).values(email_verified_at=None))
    assert_error(await auth_client.post("/api/auth/api-keys", json={"name": "CI"}), EmailNotVerifiedException)


@pytest.mark.parametrize(
    "body",
    [
        {"user_id": "0" * 32},
        {"scopes": []},
        {"scopes": ["two words"]},
        {"days": 0},
        {"name": ""},
    ],
)
async def test_invalid_input_creates_no_api_key(auth_client, db, body, assert_error):
    response = await auth_client.post("/api/auth/api-keys", json={"name": "CI", **body})
    assert_error(response, UnprocessableException)
    assert await db.scalar(select(func.count()).select_from(ApiKey)) == 0


async def test_number_of_api_keys_is_limited(auth_client, user, db, assert_error):
    for number in range(MAX_KEYS):
        await ApiKeyService(db).create(user, str(number))
    assert_error(await auth_client.post("/api/auth/api-keys", json={"name": "CI"}), TooManyApiKeysException)


async def test_last_use_is_recorded_once_a_minute(create, call, finish, db, count_queries):
    key = (await create())["key"]
    await call(key)
    await finish()
    with count_queries() as first:
        await call(key)
        await finish()
    assert not [statement for statement in first if statement.startswith("UPDATE")]
    await db.execute(update(ApiKey).values(last_used_at=datetime.now(UTC) - timedelta(minutes=2)))
    await call(key)
    await finish()
    await db.rollback()
    assert datetime.now(UTC) - await db.scalar(select(ApiKey.last_used_at)) < timedelta(minutes=1)


@pytest.mark.both_databases
async def test_request_with_an_api_key_does_not_wait_for_a_writer(create, call, finish, kit, db):
    key = (await create())["key"]
    async with kit.session() as writer:
        await writer.execute(update(ApiKey).values(name="renamed"))  # On SQLite, this blocks all other writes.
        async with asyncio.timeout(5):
            assert (await call(key)).status_code == 200
    await finish()
    assert await db.scalar(select(ApiKey.last_used_at)) is not None


@pytest.mark.both_databases
async def test_concurrent_uses_are_written_once(create, call, finish, count_queries):
    key = (await create())["key"]
    with count_queries() as statements:
        answers = await asyncio.gather(*(call(key) for _ in range(50)))
        await finish()
    assert {answer.status_code for answer in answers} == {200}
    assert len([statement for statement in statements if statement.startswith("UPDATE")]) == 1


async def test_failed_write_of_the_last_use_fails_no_request(create, call, finish, kit, db, monkeypatch, caplog):
    key = (await create())["key"]
    session = kit.database.session

    def refuse_writers(*, reader=False):
        if not reader:
            raise ServiceUnavailableException
        return session(reader=reader)

    with monkeypatch.context() as broken:
        broken.setattr(kit.database, "session", refuse_writers)
        assert (await call(key)).status_code == 200
        await finish()
    assert "Could not record the last use of an API key." in caplog.text
    assert await db.scalar(select(ApiKey.last_used_at)) is None
    monkeypatch.setattr("appkit.core.cache.monotonic", lambda: monotonic() + 61)
    await call(key)
    await finish()
    await db.rollback()
    assert await db.scalar(select(ApiKey.last_used_at)) is not None


async def test_last_use_is_written_before_the_app_stops(create, kit, db):
    await create()
    async with api_keys.lifespan(kit):
        record_use(kit.context, await db.scalar(select(ApiKey)))
        await db.rollback()
    assert await db.scalar(select(ApiKey.last_used_at)) is not None


@pytest.mark.both_databases
async def test_parallel_first_uses_all_succeed(create, call):
    key = (await create())["key"]
    answers = await asyncio.gather(*(call(key, method=method) for method in ("GET", "POST") * 10))
    assert {answer.status_code for answer in answers} == {200}


async def test_api_keys_are_exported_and_deleted_with_the_account(create, auth_client, user, db, tasks):
    made = await create()
    copy = await auth_client.get("/api/auth/me/export")
    assert [key["id"] for key in copy.json()["api_keys"]] == [made["id"]]
    assert made["key"] not in copy.text
    response = await auth_client.request("DELETE", "/api/auth/me")
    assert response.is_success, response.text
    await tasks.run()
    assert await db.scalar(select(func.count()).select_from(ApiKey)) == 0
