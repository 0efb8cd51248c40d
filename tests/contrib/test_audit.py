"""The plugin audit, on both databases."""

from datetime import UTC, datetime, timedelta
from typing import ClassVar
from uuid import UUID

import pytest
from fastapi import APIRouter
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from appkit import BaseTableModel, CurrentUser, DbSession, EncryptedString, Repository, SoftDelete
from appkit.contrib import audit
from appkit.contrib.audit import Audited, AuditEntry, delete_old_audit_entries
from appkit.domain.events import UserEnabled
from appkit.exceptions import ForbiddenException, UnauthorizedException, UnprocessableException
from appkit.kit import AppKit
from appkit.testing.kits import rebuilt


class AuditedNote(Audited, SoftDelete, BaseTableModel):
    audit_hidden: ClassVar = {"draft"}

    title: Mapped[str]
    draft: Mapped[str | None]
    secret: Mapped[str | None] = mapped_column(EncryptedString)


router = APIRouter(prefix="/audited-notes")


@router.post("", status_code=201)
async def add_note(user: CurrentUser, db: DbSession) -> str:
    note = AuditedNote(title="First", draft="to be hidden", secret="to be hidden")
    db.add(note)
    await db.flush()
    return str(note.id)


@pytest.fixture
def kit(settings):
    with rebuilt(AppKit(routers=[router], plugins=[audit], discover=False), settings) as kit:
        yield kit


async def entries(db: AsyncSession, *kinds: str) -> list[AuditEntry]:
    await db.rollback()
    return list(await db.scalars(select(AuditEntry).where(AuditEntry.kind.in_(kinds)).order_by(AuditEntry.id)))


async def test_event_is_recorded_with_actor_and_subject(auth_client, admin_client, user, tasks, db):
    admin_id = (await admin_client.get("/api/auth/me")).json()["id"]
    await admin_client.post(f"/api/users/{user.id}/disable")
    await tasks.run()
    (entry,) = await entries(db, "UserDisabled")
    assert (entry.subject, entry.actor_id) == (str(user.id), UUID(admin_id))
    assert entry.data == {"user_id": str(user.id), "by": admin_id}
    assert entry.request_id
    assert {row.subject for row in await entries(db, "UserSignedIn")} == {str(user.id), admin_id}


async def test_event_delivered_twice_is_recorded_once(kit, user, tasks, db, monkeypatch):
    monkeypatch.setattr(audit, "current_ids", lambda: {"task_id": "audit-once"})
    for _ in range(2):
        await audit.on_event(kit, UserEnabled(user_id=user.id, by=None))
    assert len(await entries(db, "UserEnabled")) == 1


async def test_changes_are_recorded_with_their_actor(auth_client, user, db):
    note_id = (await auth_client.post("/api/audited-notes")).json()
    note = await db.get_one(AuditedNote, UUID(note_id))
    note.title = "Second"
    note.secret = "another"
    await db.commit()
    await Repository(db, AuditedNote).delete(note)
    await db.commit()
    await db.delete(note)
    await db.commit()
    created, *rest = await entries(db, "audited_note.created", "audited_note.updated", "audited_note.deleted")
    assert (created.subject, created.actor_id) == (note_id, user.id)
    assert created.data["title"] == [None, "First"]
    assert "hidden" not in str(created.data)
    assert [entry.kind for entry in rest] == ["audited_note.updated"] * 2 + ["audited_note.deleted"]
    assert rest[0].data == {"title": ["First", "Second"], "secret": ["…", "…"]}
    assert rest[1].data["deleted_at"][1] is not None
    assert rest[2].data["title"] == ["Second", None]
    assert rest[2].actor_id is None


async def test_rolled_back_change_leaves_no_entry(db):
    db.add(AuditedNote(title="Never"))
    await db.flush()
    assert await db.scalar(select(func.count()).select_from(AuditEntry)) == 1
    await db.rollback()
    assert await db.scalar(select(func.count()).select_from(AuditEntry)) == 0


async def test_audit_entries_are_paged(admin_client, user, db, tasks):
    for number in range(5):
        db.add(AuditedNote(title=str(number)))
        await db.flush()
    seen, cursor = [], None
    while True:
        params = {"kind": "audited_note.created", "size": 2, **({"cursor": cursor} if cursor else {})}
        page = (await admin_client.get("/api/audit", params=params)).json()
        seen += [entry["data"]["title"][1] for entry in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == ["4", "3", "2", "1", "0"]


async def test_audit_entries_are_filtered(admin_client, user, tasks):
    await tasks.run()

    async def subjects(**params: str) -> set[str | None]:
        return {item["subject"] for item in (await admin_client.get("/api/audit", params=params)).json()["items"]}

    assert await subjects(subject=str(user.id)) == {str(user.id)}
    assert await subjects(actor_id=str(user.id)) == set()
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert await subjects(since=tomorrow) == set()
    assert len(await subjects(kind="UserCreated", until=tomorrow)) == 2


async def test_audit_entries_are_for_superusers(client, auth_client, admin_client, assert_error):
    assert_error(await client.get("/api/audit"), UnauthorizedException)
    assert_error(await auth_client.get("/api/audit"), ForbiddenException)
    assert_error(await admin_client.get("/api/audit", params={"kinds": "x"}), UnprocessableException)


async def test_old_entries_are_deleted(kit, user, tasks, db):
    await tasks.run()
    await db.execute(update(AuditEntry).values(created_at=datetime.now(UTC) - timedelta(days=364)))
    await tasks.perform(delete_old_audit_entries)
    assert await entries(db, "UserCreated")
    await db.execute(update(AuditEntry).values(created_at=datetime.now(UTC) - timedelta(days=366)))
    await tasks.perform(delete_old_audit_entries)
    assert not await entries(db, "UserCreated")
