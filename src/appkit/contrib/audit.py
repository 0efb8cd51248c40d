"""Audit trail: an entry for each event, and for each change of a table that is `Audited`.

Turn it on with `AppKit(plugins=[audit])`. It needs no further package.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from pydantic_core import to_jsonable_python
from sqlalchemy import Connection, String, delete, event as sqlalchemy_events, insert, inspect, select
from sqlalchemy.orm import Mapped, Mapper, mapped_column
from sqlalchemy.orm.base import NO_VALUE

from appkit import (
    AppKit,
    BaseTableModel,
    CursorPage,
    CursorQuery,
    EncryptedString,
    Event,
    ReadSession,
    Repository,
    Schema,
    SettingsGroup,
    TaskContext,
    TaskRouter,
    Where,
    current_ids,
    errors,
    hookimpl,
    require,
)
from appkit.exceptions import ForbiddenException

_NOISE: Final = frozenset({"id", "created_at", "updated_at", "version"})
_HIDDEN: Final = frozenset({"hashed_password"})


class AuditSettings(SettingsGroup):
    """The audit trail."""

    keep_days: int = Field(default=365, gt=0)
    """How many days an entry is kept."""


class AuditEntry(BaseTableModel):
    """One event or change. Entries are never updated. Only old entries are deleted."""

    kind: Mapped[str] = mapped_column(String(255), index=True)
    """The event's class, as in `UserSignedIn`. For a change, the table and the kind of change, as in `post.updated`."""
    actor_id: Mapped[UUID | None] = mapped_column(index=True)
    """The user who acted, if known. It is not a foreign key, because an entry outlives the account."""
    subject: Mapped[str | None] = mapped_column(String(255), index=True)
    """The id of the changed row, or of the user whom an event is about."""
    request_id: Mapped[str | None] = mapped_column(String(64))
    data: Mapped[dict[str, Any]]
    """The fields of the event. For a change, the values of each column before and after the change."""
    task_id: Mapped[str | None] = mapped_column(String(255), unique=True)
    """The task that delivered the event. It is unique, so that a second delivery adds no second entry."""


class Audited:
    """Mixin for a table whose changes are recorded. A change and its entry are in the same transaction.

        class Post(Audited, BaseTableModel):
            audit_hidden = {"draft"}

    Objects that a database session writes are recorded. Bulk statements, such as `update(Post)`, are not.
    """

    audit_hidden: ClassVar[set[str]] = set()
    """More columns whose values are masked. The values of encrypted columns and of passwords are always masked."""


class AuditEntrySchema(Schema):
    """An entry of the audit trail."""

    id: UUID
    created_at: datetime
    kind: str
    actor_id: UUID | None
    subject: str | None
    request_id: str | None
    data: dict[str, Any]


class AuditQuery(CursorQuery):
    """Filters and order of the entries."""

    sortable: ClassVar = {"age": AuditEntry.id}
    default_sort: ClassVar = "-age"

    kind: Annotated[str | None, Where(lambda value: AuditEntry.kind == value)] = None
    actor_id: Annotated[UUID | None, Where(lambda value: AuditEntry.actor_id == value)] = None
    subject: Annotated[str | None, Where(lambda value: AuditEntry.subject == value)] = None
    since: Annotated[datetime | None, Where(lambda value: AuditEntry.created_at >= value)] = None
    until: Annotated[datetime | None, Where(lambda value: AuditEntry.created_at < value)] = None


router = APIRouter(prefix="/audit", tags=["audit"])
tasks = TaskRouter()


@router.get("", dependencies=[Depends(require(superuser=True))], responses=errors(ForbiddenException))
async def list_audit_entries(db: ReadSession, query: Annotated[AuditQuery, Query()]) -> CursorPage[AuditEntrySchema]:
    """List audit entries, newest first. For superusers only."""
    return CursorPage[AuditEntrySchema].model_validate(await Repository[AuditEntry](db).page(query))


@tasks.cron("20 3 * * *", name="appkit.audit:forget")
async def delete_old_audit_entries(task: TaskContext) -> None:
    """Delete entries older than `AUDIT_KEEP_DAYS`."""
    oldest = datetime.now(UTC) - timedelta(days=task.settings.group(AuditSettings).keep_days)
    async with task.session() as db:
        await db.execute(delete(AuditEntry).where(AuditEntry.created_at < oldest))


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """Read `AUDIT_…`."""
    return {"audit": AuditSettings}


@hookimpl
def register_routers() -> list[APIRouter]:
    """Serve `/audit`."""
    return [router]


@hookimpl
def register_tasks() -> list[TaskRouter]:
    """Add the task that deletes old entries."""
    return [tasks]


@hookimpl
async def on_event(kit: AppKit, event: Event) -> None:
    """Record an event once, even if the event's task runs again."""
    data = event.model_dump(mode="json")
    task_id = current_ids().get("task_id")
    async with kit.session() as db:
        if await db.scalar(select(AuditEntry.id).where(AuditEntry.task_id == task_id)) is None:
            values = _entry(type(event).__name__, data.get("user_id"), data, by=data.get("by"))
            await db.execute(insert(AuditEntry).values(task_id=task_id, **values))


@sqlalchemy_events.listens_for(Audited, "after_insert", propagate=True)
def _record_insert(_: Mapper[Any], connection: Connection, row: Audited) -> None:
    _record(connection, row, "created", {name: [None, value] for name, value in _values(row).items()})


@sqlalchemy_events.listens_for(Audited, "after_update", propagate=True)
def _record_update(_: Mapper[Any], connection: Connection, row: Audited) -> None:
    changes: dict[str, list[Any]] = {}
    for name, value in _values(row).items():
        history = inspect(row).attrs[name].history
        if history.has_changes():
            changes[name] = [history.deleted[0] if history.deleted else None, value]
    if changes:
        _record(connection, row, "updated", changes)


@sqlalchemy_events.listens_for(Audited, "after_delete", propagate=True)
def _record_delete(_: Mapper[Any], connection: Connection, row: Audited) -> None:
    _record(connection, row, "deleted", {name: [value, None] for name, value in _values(row).items()})


def _values(row: Audited) -> dict[str, Any]:
    """The loaded values of a row's columns, without the id, the timestamps and the version."""
    state = inspect(row)
    names = [attribute.key for attribute in state.mapper.column_attrs if attribute.key not in _NOISE]
    loaded = {name: state.attrs[name].loaded_value for name in names}
    return {name: value for name, value in loaded.items() if value is not NO_VALUE}


def _record(connection: Connection, row: Audited, action: str, changes: dict[str, list[Any]]) -> None:
    mapper: Mapper[Any] = inspect(type(row))
    for name in changes:
        if name in _HIDDEN | row.audit_hidden or isinstance(mapper.columns[name].type, EncryptedString):
            changes[name] = ["…", "…"]
    subject = ",".join(map(str, mapper.primary_key_from_instance(row)))
    connection.execute(insert(AuditEntry).values(**_entry(f"{mapper.local_table}.{action}", subject, changes)))


def _entry(kind: str, subject: str | None, data: dict[str, Any], *, by: str | None = None) -> dict[str, Any]:
    ids = current_ids()
    actor = by or ids.get("user_id")
    return {
        "kind": kind,
        "actor_id": None if actor is None else UUID(actor),
        "subject": subject,
        "request_id": ids.get("request_id"),
        "data": to_jsonable_python(data, fallback=str, bytes_mode="base64"),
    }
