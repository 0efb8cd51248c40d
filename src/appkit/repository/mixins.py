"""Mixins for tables: soft deletion, optimistic locking, and authors."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, event, text
from sqlalchemy.orm import Mapped, Mapper, ORMExecuteState, Session, declared_attr, mapped_column, with_loader_criteria

from appkit.core.context import current_user_id
from appkit.exceptions import AppKitError
from appkit.repository.sqlalchemy_internals import has_option


class SoftDelete:
    """Soft deletion: deleted rows are hidden, and a `Repository` can restore them.

        class Post(SoftDelete, BaseTableModel):
            __table_args__ = (SoftDelete.unique("slug"),)
            slug: Mapped[str]

    All ORM statements skip deleted rows, in joins, subqueries and relationships too. A statement with
    `.execution_options(include_deleted=True)` includes them. Three things ignore soft deletion: `text()`, statements on
    a `Table`, and `session.get()` of a loaded row. Hiding a row doesn't change the rows that refer to it.

    SQLAlchemy's cascade doesn't find hidden rows. So the permanent deletion of a row fails with a 409 if a hidden row
    refers to it. Let the database delete such rows: write `ForeignKey(…, ondelete="CASCADE")`, and
    `passive_deletes=True` on the relationship.
    """

    deleted_at: Mapped[datetime | None] = mapped_column(default=None, sort_order=97)

    @staticmethod
    def unique(*columns: str, name: str | None = None) -> Index:
        """A unique index on the rows that are not deleted. A new row may have the value of a deleted row."""
        live = text("deleted_at IS NULL")
        return Index(name, *columns, unique=True, postgresql_where=live, sqlite_where=live)


class Versioned:
    """Optimistic locking: a version number, which detects that two people edit the same row.

    An update raises `StaleVersionException` (409) if the row has changed since it was read. If an edit spans two
    requests, send `version` with the edited fields, because `Repository.update` compares versions. `update_where` and
    `upsert` increase the version too; SQLAlchemy's `update()` doesn't.

    Raises:
        AppKitError: When a model has `__mapper_args__` without `version_id_col`.
    """

    version: Mapped[int] = mapped_column(server_default=text("1"), sort_order=97)

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.version}


class Authored:
    """The ids of the users who created and last updated a row. An id remains when its account is deleted."""

    created_by: Mapped[UUID | None] = mapped_column(default=current_user_id, sort_order=98)
    updated_by: Mapped[UUID | None] = mapped_column(default=current_user_id, onupdate=current_user_id, sort_order=99)


_LIVE = with_loader_criteria(SoftDelete, lambda cls: cls.deleted_at.is_(None), include_aliases=True)


@event.listens_for(SoftDelete, "after_mapper_constructed", propagate=True)
def _listen_to_sessions(_: Mapper[Any], __: type[Any]) -> None:
    """Listen to sessions only if a `SoftDelete` model exists, because the listener costs time."""
    if not event.contains(Session, "do_orm_execute", _leave_out_deleted):
        event.listen(Session, "do_orm_execute", _leave_out_deleted)


def _leave_out_deleted(state: ORMExecuteState) -> None:
    if not (state.is_select or state.is_update or state.is_delete):
        return
    if state.is_column_load or state.execution_options.get("include_deleted", False):
        return
    # A query that loads a relationship may have inherited the option.
    if not (state.is_relationship_load and has_option(state.statement, _LIVE)):
        state.statement = state.statement.options(_LIVE)


@event.listens_for(Versioned, "after_mapper_constructed", propagate=True)
def _check_version(mapper: Mapper[Any], cls: type[Any]) -> None:
    if mapper.version_id_col is None:
        raise AppKitError(
            f"{cls.__name__} is Versioned, but its __mapper_args__ have no version_id_col. "
            "Write them as a @declared_attr.directive that extends super().__mapper_args__."
        )
