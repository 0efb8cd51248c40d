"""What a table may have beside the usual columns: deletion that can be undone, a version, and who wrote it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, Integer, event, text
from sqlalchemy.orm import (
    Mapped,
    Mapper,
    ORMExecuteState,
    Session,
    declared_attr,
    mapped_column,
    with_loader_criteria,
)

from appkit.core.context import user_id
from appkit.exceptions import AppKitError
from appkit.repository.base import BaseTableModel
from appkit.repository.glance import reads_only


class IntBaseTableModel(BaseTableModel):
    """A `BaseTableModel` whose `id` is a number that the database counts up."""

    __abstract__ = True

    id: Mapped[int] = mapped_column(  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]
        BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True, sort_order=-1
    )


class SoftDelete:
    """Rows that are hidden when they are deleted, and can be brought back.

        class Post(SoftDelete, BaseTableModel):
            __table_args__ = (SoftDelete.unique("slug"),)
            slug: Mapped[str]

    Everything the ORM reads leaves deleted rows out, in joins, subqueries and relationships too, and its `update()`
    and `delete()` leave them alone; `.execution_options(include_deleted=True)` is how a statement says otherwise.
    `text()`, statements on a `Table`, and `session.get()` of an object that the session still holds know nothing
    of it. A `Repository` deletes and restores; what belongs to a hidden row stays as it is. For rows that go for good,
    let the database delete what belongs to them, the hidden too: `ForeignKey(…, ondelete="CASCADE")`, and
    `passive_deletes=True` on the relationship. SQLAlchemy's own cascade finds only rows that are not hidden, and the
    others then keep the row from going, with a 409.
    """

    deleted_at: Mapped[datetime | None] = mapped_column(default=None, sort_order=97)

    @staticmethod
    def unique(*columns: str, name: str | None = None) -> Index:
        """A unique index over the rows that are not deleted, so that a deleted row's value may be used again."""
        live = text("deleted_at IS NULL")
        return Index(name, *columns, unique=True, postgresql_where=live, sqlite_where=live)


class Versioned:
    """Rows that count their changes, so that of two people who edit the same one, the second is told.

    A change of a row that has changed since it was read is a `StaleVersionException`, 409. For an edit that begins in
    one request and ends in another, send `version` along with what is edited: `Repository.update` compares it.
    `update_where` and `upsert` count too; SQLAlchemy's `update()` by itself doesn't.

    Raises:
        AppKitError: When a model's own `__mapper_args__` leave out `version_id_col`.
    """

    version: Mapped[int] = mapped_column(server_default=text("1"), sort_order=97)

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.version}


def _person() -> UUID | None:
    value = user_id.get()
    return None if value is None else UUID(value)


class Authored:
    """Rows that say who made them and who changed them last: the person whose request it was, or None for the app.

    No foreign keys: the ids outlive the accounts.
    """

    created_by: Mapped[UUID | None] = mapped_column(default=_person, sort_order=98)
    updated_by: Mapped[UUID | None] = mapped_column(default=_person, onupdate=_person, sort_order=99)


_LIVE = with_loader_criteria(SoftDelete, lambda cls: cls.deleted_at.is_(None), include_aliases=True)
_tables: set[Any] = set()


def _hides_nothing(table: Any) -> bool:
    return table not in _tables


@event.listens_for(SoftDelete, "after_mapper_constructed", propagate=True)
def _watch_sessions(mapper: Mapper[Any], _: type[Any]) -> None:
    """From the first model on that needs it; before, and without one, statements cost what they always did."""
    _tables.update(mapper.tables)
    if not event.contains(Session, "do_orm_execute", _leave_out_deleted):
        event.listen(Session, "do_orm_execute", _leave_out_deleted)


def _leave_out_deleted(state: ORMExecuteState) -> None:
    statement: Any = state.statement
    if reads_only(statement, _hides_nothing):  # The criteria would cost it, for nothing, a tenth of its time.
        return
    if not (state.is_select or state.is_update or state.is_delete):
        return
    if state.is_column_load or state.execution_options.get("include_deleted", False):
        return
    # A relationship's load may have it from the statement that it belongs to.
    if not (state.is_relationship_load and any(option is _LIVE for option in statement._with_options)):  # noqa: SLF001
        state.statement = statement.options(_LIVE)


@event.listens_for(Versioned, "after_mapper_constructed", propagate=True)
def _check_version(mapper: Mapper[Any], cls: type[Any]) -> None:
    if mapper.version_id_col is None:
        raise AppKitError(
            f"{cls.__name__} is Versioned, and its __mapper_args__ left that out. "
            "Make them a @declared_attr.directive that extends super().__mapper_args__."
        )
