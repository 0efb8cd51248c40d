"""Lint for migrations: find locks that stop the running app, and changes that break the app's code.

The rules are for PostgreSQL, whatever the database. The lint skips tables that the same migration creates, because the
running app doesn't use these tables yet.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alembic.operations import MigrateOperation, ops
from alembic.script import Script
from sqlalchemy import Column, Enum, String
from sqlalchemy.sql.dml import UpdateBase

from appkit.repository.migrations.alembic_internals import Recording, Step, record

RULES: Final[dict[str, tuple[str, str]]] = {
    "AK001": (
        "A NOT NULL column is added without a default, so existing rows have no value for it.",
        "Add it with a `server_default`; or add it nullable, fill it, and make it NOT NULL in a later release.",
    ),
    "AK002": (
        "An index is built without `CONCURRENTLY`, so the table can't be written to until it is built.",
        "Build it with `postgresql_concurrently=True`, inside `with op.get_context().autocommit_block():`.",
    ),
    "AK003": (
        "An index is built or dropped concurrently inside a transaction, which PostgreSQL refuses.",
        "Move it into `with op.get_context().autocommit_block():`.",
    ),
    "AK004": (
        "A table or column is renamed, but running code still uses the old name.",
        "Add the new one, write both, copy, read the new one, and drop the old one in a later release.",
    ),
    "AK005": (
        "A table or column is dropped, but running code may still use it.",
        "Deploy code without it first; then drop it, and allow this rule with a comment.",
    ),
    "AK006": (
        "A column's type changes, so the table is rewritten and can't be read meanwhile.",
        "Add a column of the new type, write both, copy, and drop the old one in a later release.",
    ),
    "AK007": (
        "A column is made NOT NULL, so the whole table is scanned and can't be used meanwhile.",
        "Add `CHECK (… IS NOT NULL) NOT VALID`, validate it in the next migration, and set NOT NULL in a third.",
    ),
    "AK008": (
        "A foreign key or CHECK is added, so all rows are scanned and can't be written meanwhile.",
        "Add it with `postgresql_not_valid=True`, and in the next migration `ALTER TABLE … VALIDATE CONSTRAINT …`.",
    ),
    "AK009": (
        "A column is added with a default that differs by row, so the table is rewritten and can't be read meanwhile.",
        "Add it nullable without a default, fill it in batches, and set the default afterwards.",
    ),
    "AK010": (
        "A unique constraint or primary key is added, so an index is built and the table can't be used meanwhile.",
        'Build a unique index concurrently; then `op.execute("ALTER TABLE … ADD CONSTRAINT … UNIQUE USING INDEX …")`.',
    ),
    "AK011": (
        "Rows and tables are changed in one transaction, so its locks are held until the last row is changed.",
        "Move the rows to a migration of their own, or to a task that works in batches.",
    ),
    "AK012": (
        "A value of a native enum is renamed or removed, but running code may still write it.",
        "Add the new value, deploy, change the rows, and keep the old value.",
    ),
    "AK013": (
        "`upgrade()` changes something, but `downgrade()` is empty.",
        "Write the downgrade, or `raise NotImplementedError` if there can be none.",
    ),
}

_ALLOWANCE = re.compile(r"#\s*appkit:\s*allow[ \t]+(AK\d{3})[ \t]+\S")
_CHANGES_ROWS = re.compile(
    r"\s*(?:WITH\b.*?\b)?(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO)\s+([\w.\"]+)", re.IGNORECASE | re.DOTALL
)
_BREAKS_ENUM = re.compile(r"\s*ALTER\s+TYPE\b.*\b(?:RENAME|DROP)\s+VALUE\b|\s*DROP\s+TYPE\b", re.IGNORECASE | re.DOTALL)
_DATA = (ops.ExecuteSQLOp, ops.BulkInsertOp)
_CALL = re.compile(r"\b(\w+)\s*\(")
_SAME_FOR_ALL_ROWS = {"now", "transaction_timestamp", "statement_timestamp", "timezone", "cast", "varchar", "numeric"}


@dataclass(frozen=True)
class Finding:
    """A rule that a migration breaks."""

    code: str
    revision: str
    where: str
    problem: str
    instead: str


def lint(script: Script) -> Iterator[Finding]:
    """Check one migration. The comment `# appkit: allow AK003 reason` in its file allows a rule."""
    allowed = set(_ALLOWANCE.findall(Path(script.path).read_text(encoding="utf-8")))
    found = dict.fromkeys(_broken_rules(record(script.module.upgrade), record(script.module.downgrade)))
    for code, where in found:
        if code not in allowed:
            yield Finding(code, script.revision, where, *RULES[code])


def _broken_rules(upgrade: Recording, downgrade: Recording) -> Iterator[tuple[str, str]]:
    created = {_table(step.operation) for step in upgrade.steps if isinstance(step.operation, ops.CreateTableOp)}
    steps = [step for step in upgrade.steps if _table(step.operation) not in created]
    for step in steps:
        yield from ((code, _where(step.operation)) for code in _codes(step))
    if any(step.in_transaction and not isinstance(step.operation, _DATA) for step in steps):
        yield from (("AK011", _where(step.operation)) for step in steps if _rows(step.operation))
    if upgrade.failure:
        yield "AK011", f"upgrade() needs a database ({type(upgrade.failure).__name__}: {upgrade.failure})"
    if upgrade.steps and not downgrade.steps and not downgrade.failure:
        yield "AK013", "downgrade()"


def _codes(step: Step) -> Iterator[str]:
    match step.operation:
        case ops.AddColumnOp(column=column):
            yield from _new_column(column)
        case ops.AlterColumnOp() as change:
            yield from _changed_column(change)
        case ops.CreateIndexOp(kw=kw) if not kw.get("postgresql_concurrently"):
            yield "AK002"
        case ops.CreateIndexOp(kw=kw) | ops.DropIndexOp(kw=kw) if (
            kw.get("postgresql_concurrently") and step.in_transaction
        ):
            yield "AK003"
        case ops.CreateForeignKeyOp(kw=kw) | ops.CreateCheckConstraintOp(kw=kw) if not kw.get("postgresql_not_valid"):
            yield "AK008"
        case ops.CreateUniqueConstraintOp() | ops.CreatePrimaryKeyOp():
            yield "AK010"
        case ops.RenameTableOp():
            yield "AK004"
        case ops.DropTableOp() | ops.DropColumnOp():
            yield "AK005"
        case ops.ExecuteSQLOp(sqltext=statement) if _BREAKS_ENUM.match(str(statement)):
            yield "AK012"


def _new_column(column: Column[Any]) -> Iterator[str]:
    default: Any = column.server_default
    if not column.nullable and default is None:
        yield "AK001"
    if column.identity or column.computed or _differs_by_row(getattr(default, "arg", "")):
        yield "AK009"
    if column.foreign_keys:
        yield "AK008"
    if column.unique:
        yield "AK010"


def _differs_by_row(default: object) -> bool:
    """Whether the default calls a function that may return another value for each row."""
    called = () if isinstance(default, str) else _CALL.findall(re.sub("'[^']*'", "", str(default).lower()))
    return not _SAME_FOR_ALL_ROWS.issuperset(called)


def _changed_column(change: ops.AlterColumnOp) -> Iterator[str]:
    if change.modify_name:
        yield "AK004"
    if change.modify_nullable is False:
        yield "AK007"
    match change.existing_type, change.modify_type:
        case _, None:
            pass
        case Enum(native_enum=True, enums=before), Enum(native_enum=True, enums=after):
            if not set(before) <= set(after):
                yield "AK012"
        case Enum(native_enum=True), _:
            yield "AK006"
        case String(length=before), String(length=after) if after is None or (before is not None and before <= after):
            pass  # PostgreSQL raises a limit without rewriting the table.
        case _:
            yield "AK006"


def _rows(operation: MigrateOperation) -> str | None:
    """The table whose rows the operation changes."""
    match operation:
        case ops.BulkInsertOp(table=table):
            return str(table)
        case ops.ExecuteSQLOp(sqltext=UpdateBase() as statement):
            return str(statement.table)
        case ops.ExecuteSQLOp(sqltext=statement) if found := _CHANGES_ROWS.match(str(statement)):
            return found[1].replace('"', "")
    return None


def _table(operation: Any) -> str | None:
    """The table that the operation changes; for a foreign key, the referring table."""
    if isinstance(operation, _DATA):
        return _rows(operation)
    if isinstance(operation, ops.CreateForeignKeyOp):
        schema, name = operation.kw.get("source_schema"), operation.source_table
    else:
        schema, name = operation.schema, operation.table_name
    return f"{schema}.{name}" if schema else name


def _where(operation: Any) -> str:
    """The table, column or SQL to look for in the file."""
    if isinstance(operation, ops.ExecuteSQLOp):
        return " ".join(str(operation.sqltext).split())[:60]
    column = getattr(operation, "column_name", None) or getattr(getattr(operation, "column", None), "name", None)
    name = column or getattr(operation, "index_name", None) or getattr(operation, "constraint_name", None)
    return ".".join(filter(None, (_table(operation), name)))
