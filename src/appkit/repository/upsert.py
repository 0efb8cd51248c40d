"""INSERT … ON CONFLICT, for `upsert` and `get_or_create`: safe when two sessions write the same row."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Index, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, QueryableAttribute

from appkit.exceptions import AppKitError
from appkit.repository.mixins import SoftDelete

INSERTS: Mapping[str, Callable[[Any], Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def insert_or_nothing(db: AsyncSession, mapper: Mapper[Any], on: Sequence[QueryableAttribute[Any]]) -> Any:
    """An INSERT that skips rows whose key exists in the table."""
    insert, target = _insert(db, mapper, on)
    return insert.on_conflict_do_nothing(**target)


def insert_or_update(
    db: AsyncSession, mapper: Mapper[Any], on: Sequence[QueryableAttribute[Any]], names: frozenset[str]
) -> Any:
    """An INSERT that updates the attributes in `names` if the row's key exists in the table.

    The update also sets `onupdate` columns, increases the version and restores deleted rows.
    """
    insert, target = _insert(db, mapper, on)
    columns: Any = mapper.columns
    changes = {
        column: column.onupdate.arg(None) if column.onupdate.is_callable else column.onupdate.arg
        for column in columns
        if column.onupdate is not None
    }
    if mapper.version_id_col is not None:
        changes[mapper.version_id_col] = mapper.version_id_col + 1
    if issubclass(mapper.class_, SoftDelete):
        changes[columns.deleted_at] = None
    for name in names.difference(attribute.key for attribute in on) or names:  # ON CONFLICT DO UPDATE needs a column.
        changes[columns[name]] = insert.excluded[columns[name].key]
    return insert.on_conflict_do_update(**target, set_=changes)


def _insert(db: AsyncSession, mapper: Mapper[Any], on: Sequence[QueryableAttribute[Any]]) -> tuple[Any, dict[str, Any]]:
    """An INSERT, and the key for ON CONFLICT: the columns and the condition of a partial index."""
    table: Any = mapper.local_table
    dialect = db.get_bind().dialect.name
    columns = {mapper.columns[attribute.key] for attribute in on}
    for each in (table.primary_key, *table.constraints, *table.indexes):
        unique = isinstance(each, PrimaryKeyConstraint | UniqueConstraint) or getattr(each, "unique", False)
        if unique and set(each.columns) == columns:
            where = each.dialect_options[dialect].get("where") if isinstance(each, Index) else None
            return INSERTS[dialect](mapper), {"index_elements": list(columns), "index_where": where}
    names = ", ".join(attribute.key for attribute in on)
    raise AppKitError(f"{table.name} has no unique constraint or index on exactly these: {names}.")
