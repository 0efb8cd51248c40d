"""Mixins for tables: soft deletion, optimistic locking by version, created by and updated by, integer ids."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, Integer, event, text
from sqlalchemy.orm import Mapped, Mapper, ORMExecuteState, Session, declared_attr, mapped_column, with_loader_criteria

from appkit.core.context import user_id
from appkit.exceptions import AppKitError
from appkit.repository.base import BaseTableModel
from appkit.repository.sqlalchemy_internals import has_option


class IntBaseTableModel(BaseTableModel):
    """A `BaseTableModel` whose `id` is a number that the database increments."""

    __abstract__ = True

    id: Mapped[int] = mapped_column(  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]
        BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True, sort_order=-1
    )


class SoftDelete:
    """Soft deletion: deleted rows are hidden, and can be restored.

        class Post(SoftDelete, BaseTableModel):
            __table_args__ = (SoftDelete.unique("slug"),)
            slug: Mapped[str]

    Deleted rows are left out of every ORM query, in joins, subqueries and relationships too. The ORM's `update()` and
    `delete()` skip deleted rows. A statement with `.execution_options(include_deleted=True)` includes them. Three
    things ignore soft deletion: `text()`, statements on a `Table`, and `session.get()` of a row that is loaded already.

    A `Repository` hides and restores rows. Rows that refer to a hidden row are not changed.

    Before you delete rows permanently, let the database delete the rows that refer to them:
    `ForeignKey(…, ondelete="CASCADE")`, and `passive_deletes=True` on the relationship. SQLAlchemy's own cascade
    doesn't find hidden rows, so deleting the row that they refer to would fail with a 409.
    """

    deleted_at: Mapped[datetime | None] = mapped_column(default=None, sort_order=97)

    @staticmethod
    def unique(*columns: str, name: str | None = None) -> Index:
        """A unique index over the rows that are not deleted, so that the value of a deleted row can be used again."""
        live = text("deleted_at IS NULL")
        return Index(name, *columns, unique=True, postgresql_where=live, sqlite_where=live)


class Versioned:
    """Optimistic locking: a version number that detects when two people edit the same row.

    Updating a row that was changed since it was read raises `StaleVersionException`, 409. If an edit spans two
    requests, send `version` with the edited fields: `Repository.update` compares it. `update_where` and `upsert`
    increase the version too; SQLAlchemy's `update()` doesn't.

    Raises:
        AppKitError: When a model's own `__mapper_args__` leave out `version_id_col`.
    """

    version: Mapped[int] = mapped_column(server_default=text("1"), sort_order=97)

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.version}


def _current_user_id() -> UUID | None:
    value = user_id.get()
    return None if value is None else UUID(value)


class Authored:
    """The ids of the users who created a row and who updated it last; None if the app itself did so.

    The ids are not foreign keys, because they remain when an account is deleted.
    """

    created_by: Mapped[UUID | None] = mapped_column(default=_current_user_id, sort_order=98)
    updated_by: Mapped[UUID | None] = mapped_column(default=_current_user_id, onupdate=_current_user_id, sort_order=99)


_LIVE = with_loader_criteria(SoftDelete, lambda cls: cls.deleted_at.is_(None), include_aliases=True)


@event.listens_for(SoftDelete, "after_mapper_constructed", propagate=True)
def _listen_to_sessions(_: Mapper[Any], __: type[Any]) -> None:
    """Listen once the first `SoftDelete` model is mapped, so that apps without such a model pay nothing."""
    if not event.contains(Session, "do_orm_execute", _leave_out_deleted):
        event.listen(Session, "do_orm_execute", _leave_out_deleted)


def _leave_out_deleted(state: ORMExecuteState) -> None:
    if not (state.is_select or state.is_update or state.is_delete):
        return
    if state.is_column_load or state.execution_options.get("include_deleted", False):
        return
    # The query that loads a relationship may have inherited the option.
    if not (state.is_relationship_load and has_option(state.statement, _LIVE)):
        state.statement = state.statement.options(_LIVE)


@event.listens_for(Versioned, "after_mapper_constructed", propagate=True)
def _check_version(mapper: Mapper[Any], cls: type[Any]) -> None:
    if mapper.version_id_col is None:
        raise AppKitError(
            f"{cls.__name__} is Versioned, but its __mapper_args__ have no version_id_col. "
            "Write them as a @declared_attr.directive that extends super().__mapper_args__."
        )
