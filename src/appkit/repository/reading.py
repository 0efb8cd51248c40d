"""Database sessions that refuse to write, and read-your-writes: requests that must read from the primary."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.sql.elements import TextClause

from appkit.exceptions import AppKitError

_READING = ("select", "with", "values", "table", "show", "explain", "pragma")
_WROTE = "appkit.wrote"


@dataclass
class Client:
    """The client of the current request."""

    wrote: bool = False
    """Whether the client wrote in an earlier request, and a replica may lack the change."""
    writes: bool = False
    """Whether the client has written in this request."""


client: ContextVar[Client | None] = ContextVar("appkit_client", default=None)
"""The client of the current request, in an app that has replicas."""


def needs_primary() -> bool:
    """Whether the current request must read from the primary, because a replica may lack the client's changes."""
    current = client.get()
    return current is not None and (current.wrote or current.writes)


class WritingSession(Session):
    """The sync session of a unit of work."""


class ReadingSession(Session):
    """The sync session of a read session."""


class TrackedSession(WritingSession):
    """The sync session of a unit of work in an app with replicas. It records that the client wrote."""


@event.listens_for(ReadingSession, "do_orm_execute")
def _refuse_statement(state: ORMExecuteState) -> None:
    if _writes(state):
        _refuse_to_write()


@event.listens_for(ReadingSession, "before_flush")
def _refuse_flush(session: Session, *_: Any) -> None:
    if session.new or session.deleted or any(session.is_modified(row) for row in session.dirty):
        _refuse_to_write()


@event.listens_for(TrackedSession, "do_orm_execute")
def _note_statement(state: ORMExecuteState) -> None:
    if _writes(state):
        state.session.info[_WROTE] = True


@event.listens_for(TrackedSession, "after_flush")
def _note_flush(session: Session, _: Any) -> None:
    session.info[_WROTE] = True


@event.listens_for(TrackedSession, "after_commit")
def _note_commit(session: Session) -> None:
    current = client.get()
    if session.info.pop(_WROTE, False) and current is not None:
        current.writes = True


def _writes(state: ORMExecuteState) -> bool:
    if isinstance(state.statement, TextClause):
        return not state.statement.text.lstrip(" \t\n(").lower().startswith(_READING)
    return state.is_insert or state.is_update or state.is_delete


def _refuse_to_write() -> None:
    raise AppKitError("A read session can't write. Use `DbSession` in a route, or `database.session()` elsewhere.")
