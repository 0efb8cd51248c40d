"""Alembic's environment, for all apps. New migrations import only Alembic and SQLAlchemy."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Enum
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

from appkit.repository.column_types import JSONOf


def render_item(kind: str, item: Any, autogen: AutogenContext) -> str | Literal[False]:
    """Write custom types as types of the database, because the class of a custom type may be moved later."""
    if kind != "type":
        return False
    if isinstance(item, JSONOf):
        autogen.imports.add("from sqlalchemy.dialects import postgresql")
        return "sa.JSON().with_variant(postgresql.JSONB(), 'postgresql')"
    if isinstance(item, TypeDecorator):
        item = item.impl_instance
        return f"sa.{item!r}" if type(item).__module__.startswith("sqlalchemy.sql.") else False
    if isinstance(item, Enum) and not item.native_enum:
        return f"sa.String(length={item.length})"
    if isinstance(item, JSONB):
        autogen.imports.add("from sqlalchemy.dialects import postgresql")
        return "postgresql.JSONB()"
    return False


def drop_empty(_context: Any, _revision: Any, directives: list[Any]) -> None:
    """Write no file if there are no differences."""
    if directives[0].upgrade_ops.is_empty():
        directives.clear()


context.configure(
    **context.config.attributes["options"],
    render_as_batch=True,  # SQLite needs batch mode to alter tables; PostgreSQL runs the same file.
    render_item=render_item,
    process_revision_directives=drop_empty,
)
with context.begin_transaction():
    if context.get_context().dialect.name == "postgresql":
        # If a migration waits for a table, later queries wait too. LOCAL excludes indexes that are built concurrently.
        context.execute(f"SET LOCAL lock_timeout = {context.config.attributes['lock_timeout'] * 1000:.0f}")
    context.run_migrations()
