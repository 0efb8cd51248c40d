"""Database errors: which API exception and field each one becomes, and which ones are worth a retry.

Messages of the driver are never passed on, because they quote values.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import CheckConstraint, Column, Constraint, Index, MetaData, Table
from sqlalchemy.exc import DBAPIError, IntegrityError, TimeoutError  # noqa: A004 - SQLAlchemy's own
from sqlalchemy.orm.exc import StaleDataError

from appkit.exceptions import (
    APIException,
    ConstraintViolatedException,
    ServiceUnavailableException,
    StaleVersionException,
)
from appkit.repository.base import Base

T = TypeVar("T")

_MESSAGES = {
    "unique": "This is taken already.",
    "foreign_key": "This refers to something that is not there.",
    "referenced": "Something else still refers to this.",
    "not_null": "This is required.",
    "check": "This is not acceptable.",
}
_STATES = {"23505": "unique", "23503": "foreign_key", "23001": "referenced", "23502": "not_null", "23514": "check"}
_SQLITE = {
    "SQLITE_CONSTRAINT_UNIQUE": "unique",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "unique",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "foreign_key",
    "SQLITE_CONSTRAINT_NOTNULL": "not_null",
    "SQLITE_CONSTRAINT_CHECK": "check",
}
# Connection lost, too many connections, shutting down; deadlock, serialisation failure, lock or statement timeout.
_TRANSIENT = re.compile(r"08|53|57P0|57014|40001|40P01|55P03")
_ROLLED_BACK = {"40001", "40P01"}  # Serialisation failure, deadlock.
_RETRY_DELAY = 0.05  # seconds


class _Violation(NamedTuple):
    kind: str
    columns: Iterable[Column[object]]


def translate(exc: Exception, metadata: MetaData) -> APIException | None:
    """The API exception for a database error; None for a bug in the program, such as wrong SQL.

    Args:
        exc: An exception that SQLAlchemy raised with asyncpg, psycopg or aiosqlite.
        metadata: The tables, in which constraint names are looked up.
    """
    if isinstance(exc, StaleDataError):
        return StaleVersionException()
    if isinstance(exc, TimeoutError):
        return ServiceUnavailableException()
    if not isinstance(exc, DBAPIError):
        return None
    if isinstance(exc, IntegrityError):
        return _conflict(*_violation(exc, metadata))
    if _is_locked(exc) or exc.connection_invalidated or _TRANSIENT.match(_sqlstate(exc)):
        return ServiceUnavailableException()
    return None


async def retry(work: Callable[[], Awaitable[T]], attempts: int) -> T:
    """Run a unit of work, and run it again after a deadlock, a serialisation failure or a locked SQLite file.

    The delay grows exponentially, with jitter.

    Args:
        work: A whole unit of work. Its errors are translated already.
        attempts: How often `work` runs at most.
    """
    for attempt in range(1, attempts):
        try:
            return await work()
        except ServiceUnavailableException as exc:
            if not _was_rolled_back(exc.__cause__):
                raise
        await asyncio.sleep(random.uniform(0.5, 1) * _RETRY_DELAY * 2**attempt)  # noqa: S311 - not for secrets
    return await work()


def _was_rolled_back(exc: BaseException | None) -> bool:
    """Whether the database certainly rolled back. After a lost connection that is unknown."""
    return isinstance(exc, DBAPIError) and (_is_locked(exc) or _sqlstate(exc) in _ROLLED_BACK)


def _is_locked(exc: DBAPIError) -> bool:
    return getattr(exc.driver_exception, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _sqlstate(exc: DBAPIError) -> str:
    return getattr(exc.driver_exception, "sqlstate", None) or ""


def _conflict(kind: str, columns: Iterable[Column[object]]) -> APIException:
    message = _MESSAGES.get(kind)
    errors = [{"field": _field(column), "message": message, "type": kind} for column in columns]
    return ConstraintViolatedException(message, extra={"errors": errors})


def _violation(exc: IntegrityError, metadata: MetaData) -> _Violation:
    driver = exc.driver_exception
    if name := getattr(driver, "sqlite_errorname", None):
        return _sqlite_violation(_SQLITE.get(name, "other"), str(driver), exc.statement or "", metadata)
    details: Any = getattr(driver, "diag", driver)  # psycopg has a separate object for details; asyncpg has none.
    kind = _STATES.get(getattr(driver, "sqlstate", ""), "other")
    message = getattr(details, "message_primary", None) or str(driver)
    if kind == "foreign_key" and message.startswith("update or delete"):
        kind = "referenced"
    table = metadata.tables.get(_table_key(details, metadata))
    if table is None or kind == "referenced":  # Another table's constraint: no field of the request is wrong.
        return _Violation(kind, ())
    if kind == "not_null":
        return _Violation(kind, _named(table, [details.column_name]))
    return _Violation(kind, _constrained(table, details.constraint_name))


def _sqlite_violation(kind: str, message: str, statement: str, metadata: MetaData) -> _Violation:
    _, _, names = message.partition(" constraint failed: ")
    written = re.match(r'\s*(INSERT INTO|UPDATE|DELETE FROM) "?(\w+)', statement)
    table = metadata.tables.get(written[2]) if written else None
    if kind == "foreign_key" and written and written[1] == "DELETE FROM":
        return _Violation("referenced", ())
    if table is None:
        return _Violation(kind, ())
    if kind == "foreign_key":  # SQLite doesn't name the constraint, so it is known only if the table has just one.
        keys = list(table.foreign_key_constraints)
        return _Violation(kind, keys[0].columns if len(keys) == 1 else ())
    if kind == "check" or names.startswith("index "):
        return _Violation(kind, _constrained(table, names.removeprefix("index ").strip("'")))
    return _Violation(kind, _named(table, [name.rpartition(".")[2] for name in names.split(", ")]))


def _table_key(details: object, metadata: MetaData) -> str:
    name, schema = getattr(details, "table_name", None) or "", getattr(details, "schema_name", None)
    return f"{schema}.{name}" if f"{schema}.{name}" in metadata.tables else name


def _named(table: Table, names: Iterable[str]) -> list[Column[object]]:
    return [table.columns[name] for name in names if name in table.columns]


def _constrained(table: Table, name: str | None) -> list[Column[object]]:
    everything: list[Constraint | Index] = [*table.constraints, *table.indexes]
    constraint = next((each for each in everything if each.name == name), None)
    if isinstance(constraint, CheckConstraint):  # A CHECK that is written as text may have no columns.
        return [column for column in table.columns if re.search(rf"\b{column.name}\b", str(constraint.sqltext))]
    return list(getattr(constraint, "columns", ()))


def _field(column: Column[object]) -> str:
    """The attribute that is mapped to the column; the attribute's name may differ from the column's."""
    for mapper in Base.registry.mappers:
        if mapper.local_table is column.table:
            return mapper.get_property_by_column(column).key
    return column.name
