"""fastapi-appkit-audit: a plugin that stores a row for each event, and adds a route that lists these rows."""

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Mapped

from appkit import AppKit, BaseTableModel, CurrentUser, DbSession, Event, hookimpl

router = APIRouter(prefix="/audit", tags=["audit"])


class AuditEntry(BaseTableModel):
    what: Mapped[str]


@router.get("")
async def list_entries(user: CurrentUser, db: DbSession) -> list[str]:
    return list(await db.scalars(select(AuditEntry.what)))


@hookimpl
def register_routers() -> list[APIRouter]:
    return [router]


@hookimpl
async def on_event(kit: AppKit, event: Event) -> None:
    async with kit.session() as db:
        db.add(AuditEntry(what=repr(event)))
