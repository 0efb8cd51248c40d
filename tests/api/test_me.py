"""One's own account: the profile, a copy of what is kept, and its end, on both databases."""

from datetime import timedelta
from uuid import UUID

import pytest
from pydantic import BaseModel, Field
from sqlalchemy import func, select, update

from appkit import hookimpl
from appkit.api.routes.auth import create_auth_router
from appkit.domain.events import UserDeleted, UserExported
from appkit.exceptions import (
    InvalidCredentialsException,
    ReauthenticationRequiredException,
    SessionRevokedException,
    UnauthorizedException,
    UnprocessableException,
)
from appkit.repository.auth import AuthSession, AuthToken
from appkit.repository.base import utcnow
from appkit.service.links import LinkService
from appkit.testing.plugin import PASSWORD


@pytest.mark.parametrize(("method", "path"), [("PATCH", "me"), ("DELETE", "me"), ("GET", "me/export")])
async def test_account_routes_require_signing_in(client, assert_error, method, path):
    assert_error(await client.request(method, f"/api/auth/{path}", json={}), UnauthorizedException)


@pytest.mark.parametrize(
    "field", ["is_superuser", "id", "email", "email_verified_at", "security_version", "hashed_password", "is_active"]
)
async def test_columns_outside_of_the_profile_are_refused(auth_client, client, kit, user, assert_error, field):
    assert_error(await auth_client.patch("/api/auth/me", json={field: True}), UnprocessableException)
    new = {"email": "new@example.com", "password": PASSWORD, field: True}
    if field != "email":
        assert_error(await client.post("/api/auth/signup", json=new), UnprocessableException)
    async with kit.session() as db:
        row = await db.get_one(kit.context.user_model, user.id)
        assert await db.scalar(select(func.count()).select_from(kit.context.user_model)) == 1
    assert (row.is_superuser, row.security_version, row.email_verified_at, row.email) == (False, 1, None, user.email)


async def test_profile_without_fields_changes_nothing(auth_client, user):
    assert (await auth_client.patch("/api/auth/me", json={})).json()["email"] == user.email


async def test_account_deletion_removes_all_personal_data(
    auth_client, client, kit, user, events, tasks, mailbox, assert_error
):
    held = dict(auth_client.cookies)
    async with kit.session() as db:
        await LinkService(db).make(await db.get_one(kit.context.user_model, user.id), "probe", ttl=60)
    response = await auth_client.request("DELETE", "/api/auth/me")
    assert response.status_code == 204
    assert len([line for line in response.headers.get_list("set-cookie") if "Max-Age=0" in line]) == 2
    client.cookies.update(held)
    assert_error(await client.get("/api/auth/me"), SessionRevokedException)
    client.cookies.clear()
    credentials = {"email": user.email, "password": PASSWORD}
    assert_error(await client.post("/api/auth/signin", json=credentials), InvalidCredentialsException)
    async with kit.session() as db:
        row = await db.get_one(kit.context.user_model, user.id)
        rest = [await db.scalar(select(func.count()).select_from(table)) for table in (AuthSession, AuthToken)]
    assert rest == [0, 0]
    assert user.email not in str({name: value for name, value in vars(row).items() if name[0] != "_"})
    assert (row.hashed_password, row.is_active, row.deleted_at is None) == (None, False, False)
    assert UserDeleted(user_id=user.id, email=user.email) in events
    await tasks.run()
    assert [(mail.to, mail.subject) for mail in mailbox] == [(user.email, "Your account was deleted")]
    assert (await client.post("/api/auth/signup", json=credentials)).status_code == 201


async def test_account_deletion_requires_a_recent_password(auth_client, kit, assert_error):
    async with kit.session() as db:
        await db.execute(update(AuthSession).values(authenticated_at=utcnow() - timedelta(hours=1)))
    await auth_client.post("/api/auth/refresh")
    assert_error(await auth_client.request("DELETE", "/api/auth/me"), ReauthenticationRequiredException)
    assert (await auth_client.get("/api/auth/me")).status_code == 200


async def test_deleted_accounts_are_hidden_from_superusers(auth_client, admin_client, user):
    await auth_client.request("DELETE", "/api/auth/me")
    assert (await admin_client.get(f"/api/users/{user.id}")).status_code == 404
    assert [item["email"] for item in (await admin_client.get("/api/users")).json()["items"]] == ["admin@example.com"]


async def test_hook_export_account_adds_to_the_export(auth_client, kit, user, events):
    class Bookmarks:
        @hookimpl
        async def export_account(self, user, db):
            assert await db.scalar(select(1)) == 1
            return [("bookmarks", [user.email])]

    kit.plugins.register(Bookmarks())
    response = await auth_client.get("/api/auth/me/export")
    assert response.headers["content-disposition"] == 'attachment; filename="account.json"'
    copy = response.json()
    assert set(copy) == {"user", "sessions", "bookmarks"}
    assert (copy["user"]["email"], copy["bookmarks"]) == (user.email, [user.email])
    assert [UUID(session["user_id"]) for session in copy["sessions"]] == [user.id]
    assert not {"hashed_password", "email_key", "security_version"} & set(copy["user"])
    assert "argon2" not in response.text
    assert UserExported(user_id=user.id) in events


class Profile(BaseModel):
    nickname: str | None = Field(default=None, max_length=10)
    newsletter: bool = False


def test_openapi_has_the_profile_fields(app):
    from fastapi import FastAPI

    own = FastAPI()
    own.include_router(create_auth_router(Profile))
    schemas = own.openapi()["components"]["schemas"]
    assert {"nickname", "newsletter", "email"} <= set(schemas["MeSchema"]["properties"])
    assert set(schemas["ProfileSchema"]["properties"]) == {"nickname", "newsletter"}
    assert schemas["ProfileSchema"]["additionalProperties"] is False
