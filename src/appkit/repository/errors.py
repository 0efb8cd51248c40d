"""Database errors: translate them to API exceptions, and retry the temporary ones.

The API never returns a message of the driver, because such a message quotes values.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

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
_Violation = tuple[str, Iterable[Column[object]]]  # The kind, and the columns.

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


def translate(exc: Exception, metadata: MetaData) -> APIException | None:
    """The API exception for a database error; None for a bug in the program, such as wrong SQL."""
    if isinstance(exc, StaleDataError):
        return StaleVersionException()
    if isinstance(exc, TimeoutError):
        return ServiceUnavailableException()
    if not isinstance(exc, DBAPIError):
        return None
    if isinstance(exc, IntegrityError):
        kind, columns = _violation(exc, metadata)
        return constraint_violated(kind, [_field(column) for column in columns])
    if _is_locked(exc) or exc.connection_invalidated or _TRANSIENT.match(_sqlstate(exc)):
        return ServiceUnavailableException()
    return None


async def retry(work: Callable[[], Awaitable[T]], attempts: int) -> T:
    """Run `work` until it succeeds, at most `attempts` times. The delay grows exponentially, with jitter.

    Only a deadlock, a serialisation failure and a locked SQLite file cause a retry. `work` is a whole unit of work that
    raises translated errors.
    """
    for attempt in range(1, attempts):
        try:
            return await work()
        except ServiceUnavailableException as exc:
            # These errors prove the rollback. After a lost connection, nobody knows whether the commit succeeded.
            cause = exc.__cause__
            if not (isinstance(cause, DBAPIError) and (_is_locked(cause) or _sqlstate(cause) in _ROLLED_BACK)):
                raise
        await asyncio.sleep(random.uniform(0.5, 1) * _RETRY_DELAY * 2**attempt)  # noqa: S311 - not for secrets
    return await work()


def constraint_violated(kind: str, fields: Iterable[str]) -> ConstraintViolatedException:
    """The exception for a violated constraint of this kind, with an error for each field."""
    message = _MESSAGES.get(kind)
    errors = [{"field": field, "message": message, "type": kind} for field in fields]
    return ConstraintViolatedException(message, extra={"errors": errors})


def _is_locked(exc: DBAPIError) -> bool:
    return getattr(exc.driver_exception, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _sqlstate(exc: DBAPIError) -> str:
    return getattr(exc.driver_exception, "sqlstate", None) or ""


def _violation(exc: IntegrityError, metadata: MetaData) -> _Violation:
    driver = exc.driver_exception
    if name := getattr(driver, "sqlite_errorname", None):
        return _sqlite_violation(_SQLITE.get(name, "other"), str(driver), exc.statement or "", metadata)
    details: Any = getattr(driver, "diag", driver)  # psycopg keeps the details in `diag`; asyncpg, in the exception.
    kind = _STATES.get(getattr(driver, "sqlstate", ""), "other")
    message = getattr(details, "message_primary", None) or str(driver)
    if kind == "foreign_key" and message.startswith("update or delete"):
        kind = "referenced"
    table_name = getattr(details, "table_name", "")
    table = metadata.tables.get(f"{getattr(details, 'schema_name', '')}.{table_name}", metadata.tables.get(table_name))
    if table is None or kind == "referenced":  # A constraint of another table refuses the change: no field is wrong.
        return kind, ()
    if kind == "not_null":
        return kind, _named(table, [details.column_name])
    return kind, _constrained(table, details.constraint_name)


def _sqlite_violation(kind: str, message: str, statement: str, metadata: MetaData) -> _Violation:
    _, _, names = message.partition(" constraint failed: ")
    written = re.match(r'\s*(INSERT INTO|UPDATE|DELETE FROM) "?(\w+)', statement)
    table = metadata.tables.get(written[2]) if written else None
    if kind == "foreign_key" and written and written[1] == "DELETE FROM":
        return "referenced", ()
    if table is None:
        return kind, ()
    if kind == "foreign_key":  # SQLite doesn't name the foreign key. It is known only if the table has no other.
        keys = list(table.foreign_key_constraints)
        return kind, keys[0].columns if len(keys) == 1 else ()
    if kind == "check" or names.startswith("index "):
        return kind, _constrained(table, names.removeprefix("index ").strip("'"))
    return kind, _named(table, [name.rpartition(".")[2] for name in names.split(", ")])


def _named(table: Table, names: Iterable[str]) -> list[Column[object]]:
    return [table.columns[name] for name in names if name in table.columns]


def _constrained(table: Table, name: str | None) -> list[Column[object]]:
    everything: list[Constraint | Index] = [*table.constraints, *table.indexes]
    constraint = next((each for each in everything if each.name == name), None)
    if isinstance(constraint, CheckConstraint):  # SQLAlchemy knows no columns of a CHECK written as text.
        return [column for column in table.columns if re.search(rf"\b{column.name}\b", str(constraint.sqltext))]
    return list(getattr(constraint, "columns", ()))


def _field(column: Column[object]) -> str:
    """The name of the attribute that is mapped to the column."""
    for mapper in Base.registry.mappers:
        if mapper.local_table is column.table:
            return mapper.get_property_by_column(column).key
    return column.name
