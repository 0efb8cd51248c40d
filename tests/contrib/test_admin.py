"""The plugin admin, on both databases."""

import re
from datetime import datetime
from typing import Literal

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, mapped_column

from appkit import BaseTableModel, EncryptedString
from appkit.contrib import admin, roles
from appkit.exceptions import ForbiddenException
from appkit.kit import AppKit
from appkit.testing.kits import rebuilt


class AdminShelf(BaseTableModel):
    name: Mapped[str]
    opened_at: Mapped[datetime | None]
    safe_code: Mapped[str | None] = mapped_column(EncryptedString)
    wood: Mapped[Literal["oak", "pine"] | None]


class AdminSecretShelf(BaseTableModel):
    admin_view = None

    name: Mapped[str]


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text[:500]
    return match[1]


@pytest.fixture
def plugins():
    return [admin]


@pytest.fixture
def kit(settings, plugins):
    with rebuilt(AppKit(plugins=plugins, discover=False), settings) as kit:
        yield kit


async def test_superuser_lists_creates_changes_and_deletes_rows(admin_client, db):
    page = await admin_client.get("/api/admin/admin-shelf/create")
    assert page.status_code == 200, page.text[:500]
    token = found(r'name="csrftoken" value="([^"]+)"', page.text)
    assert "safe_code" not in page.text
    form = {"csrftoken": token, "name": "Philosophy", "opened_at": "2026-11-26 12:00:00"}
    made = await admin_client.post("/api/admin/admin-shelf/create", data=form)
    assert made.status_code == 303, made.text[:3000]
    shelf = await db.scalar(select(AdminShelf))
    assert (shelf.name, shelf.opened_at.isoformat()) == ("Philosophy", "2026-11-26T12:00:00+00:00")
    listed = await admin_client.get("/api/admin/admin-shelf/list")
    assert "Philosophy" in listed.text
    changed = await admin_client.post(f"/api/admin/admin-shelf/edit?pk={shelf.id}", data={**form, "name": "Poetry"})
    assert changed.status_code == 303, changed.text[:3000]
    await db.refresh(shelf)
    assert shelf.name == "Poetry"


async def test_admin_pages_are_for_superusers(client, auth_client, assert_error):
    assert_error(await auth_client.get("/api/admin/"), ForbiddenException)
    answer = await client.get("/api/admin/")
    assert answer.status_code == 401
    assert "/api/auth/refresh" in answer.text
    assert (await client.post("/api/admin/admin-shelf/create")).headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("plugins", [[admin, roles]])
async def test_admin_pages_are_open_to_the_permission_only(admin_client, auth_client, user, db, assert_error):
    await admin_client.put("/api/roles/clerk", json={"permissions": ["admin:leave", "posts:*"]})
    assert (await admin_client.put(f"/api/users/{user.id}/roles/clerk")).status_code == 204
    assert_error(await auth_client.get("/api/admin/"), ForbiddenException)
    await admin_client.put("/api/roles/clerk", json={"permissions": ["admin:enter"]})
    page = await auth_client.get("/api/admin/admin-shelf/create")
    token = found(r'name="csrftoken" value="([^"]+)"', page.text)
    form = {"csrftoken": token, "name": "History"}
    assert (await auth_client.post("/api/admin/admin-shelf/create", data=form)).status_code == 303
    assert await db.scalar(select(AdminShelf.name)) == "History"
    assert (await admin_client.get("/api/admin/")).status_code == 200
    assert_error(await auth_client.get("/api/roles"), ForbiddenException)
    await admin_client.delete(f"/api/users/{user.id}/roles/clerk")
    assert_error(await auth_client.post("/api/admin/admin-shelf/create", data=form), ForbiddenException)


async def test_row_is_deleted_and_invalid_input_changes_nothing(admin_client, db):
    shelf = AdminShelf(name="Maps")
    db.add(shelf)
    await db.commit()
    page = await admin_client.get("/api/admin/admin-shelf/list")
    headers = {"X-CSRFToken": found(r"starlette_admin_csrftoken=([^;]+)", page.headers["set-cookie"])}
    gone = await admin_client.post(f"/api/admin/_api/admin-shelf/action?name=delete&pks={shelf.id}", headers=headers)
    assert gone.status_code == 200, gone.text[:3000]
    assert await db.scalar(select(func.count()).select_from(AdminShelf)) == 0
    # A request without the form's token, and a request from another site.
    refused = await admin_client.post("/api/admin/admin-shelf/create", data={"name": "Forged"})
    assert refused.status_code == 403
    headers = {"Sec-Fetch-Site": "cross-site", **headers}
    refused = await admin_client.post("/api/admin/admin-shelf/create", data={"name": "Forged"}, headers=headers)
    assert refused.status_code == 403
    assert await db.scalar(select(func.count()).select_from(AdminShelf)) == 0


async def test_users_are_read_only_and_shown_without_secrets(admin_client, user):
    page = await admin_client.get(f"/api/admin/user/detail?pk={user.id}")
    assert user.email in page.text
    assert "argon2" not in page.text
    assert "hashed_password" not in page.text
    assert (await admin_client.get(f"/api/admin/user/edit?pk={user.id}")).status_code == 403
    assert (await admin_client.get("/api/admin/user/create")).status_code == 403


async def test_only_tables_of_the_app_have_pages(admin_client):
    home = (await admin_client.get("/api/admin/")).text
    assert "admin-shelf/list" in home
    assert (await admin_client.get("/api/admin/admin-secret-shelf/list")).status_code == 404
    assert "auth-session" not in home
    assert (await admin_client.get("/api/admin/admin-shelf/edit?pk=no-id")).status_code == 404


async def test_page_allows_only_its_own_scripts(admin_client):
    page = await admin_client.get("/api/admin/admin-shelf/list")
    policy = page.headers["content-security-policy"]
    nonce = found(r"'nonce-([^']+)'", policy)
    scripts = re.findall(r"<script[^>]*>", page.text)
    assert scripts
    assert all(f'nonce="{nonce}"' in script for script in scripts)
    assert "script-src 'self' 'unsafe-inline'" not in policy
    assert "rsms.me" not in page.text
    assert nonce not in (await admin_client.get("/api/admin/admin-shelf/list")).text
    asset = found(r'src="https?://[^/"]+(/api/admin/static[^"]+)"', page.text)
    assert (await admin_client.get(asset)).status_code == 200
