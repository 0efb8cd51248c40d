"""BaseTableModel: the base class of tables, with ids, timestamps, constraint names and column types."""

import re
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from enum import Enum
from secrets import randbits
from typing import Any, ClassVar, Literal, get_args, get_origin
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Enum as EnumType,
    Identity,
    Integer,
    Interval,
    MetaData,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, declared_attr, has_inherited_table, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

from appkit.exceptions import AppKitError
from appkit.repository.column_types import JSONOf
from appkit.repository.sqlalchemy_internals import refuse_lazy_loading

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Names for constraints, so that a migration can drop them by name."""


def utcnow() -> datetime:
    """Current time, UTC-aware."""
    return datetime.now(UTC)


if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    _uuid7_lock = threading.Lock()
    _uuid7_latest = 0

    def uuid7() -> UUID:
        """A UUID that sorts by age (RFC 9562, 5.7). It sorts after all earlier UUIDs of this process."""
        global _uuid7_latest  # noqa: PLW0603 - the order of one process's ids depends on the latest one
        now = time.time_ns() // 1_000_000 << 74
        with _uuid7_lock:  # "Monotonic Random", RFC 9562, 6.2, method 2
            _uuid7_latest = number = max(now | randbits(73), _uuid7_latest + 1 + randbits(32))
        return UUID(int=number >> 74 << 80 | 7 << 76 | (number >> 62 & 0xFFF) << 64 | 2 << 62 | number & (1 << 62) - 1)


class UTCDateTime(TypeDecorator[datetime]):
    """A point in time. A value may be written with any time zone, and is read as UTC-aware.

    Raises:
        ValueError: When a naive datetime is written, because its time zone is unknown.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - signature
        """Convert to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("This datetime has no time zone. Use datetime.now(UTC), or parse it with its offset.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - signature
        """Convert to a UTC-aware datetime. SQLite stores UTC without an offset."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:  # noqa: ARG002 - signature
        """A point in time plus a timedelta is a point in time."""
        return Interval() if isinstance(value, timedelta) else self


# A native enum would need a migration for each new member, and its type would remain after the table is dropped.
# Without `validate_strings`, a wrong value would be written, and fail only when it is read.
_ENUM: Any = {"native_enum": False, "length": 64, "validate_strings": True}
_JSON = JSON().with_variant(JSONB(), "postgresql")


class Base(DeclarativeBase):
    """The base class of all tables, without columns.

    Reading a relationship that was not loaded raises an error. Load the relationship with `options(selectinload(…))`,
    or set `lazy=` yourself.
    """

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar = {
        datetime: UTCDateTime(),
        dict[str, Any]: _JSON,
        list[str]: _JSON,
        Enum: EnumType(Enum, values_callable=lambda e: [str(m.value) for m in e], **_ENUM),
        Literal: EnumType(Enum, **_ENUM),
    }


class BaseTableModel(Base):
    """A table with an `id` that sorts by age, `created_at` and `updated_at`.

    Without a `__tablename__`, the table has the class's name in snake case.
    """

    __abstract__ = True

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7, sort_order=-1)
    # The server's default is for rows written by hand.
    created_at: Mapped[datetime] = mapped_column(
        default=utcnow, server_default=text("CURRENT_TIMESTAMP"), sort_order=98
    )
    updated_at: Mapped[datetime] = mapped_column(
        default=utcnow, onupdate=utcnow, server_default=text("CURRENT_TIMESTAMP"), sort_order=99
    )

    @declared_attr.directive
    @classmethod
    def __tablename__(cls) -> str | None:
        return None if has_inherited_table(cls) else snake_case(cls.__name__)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__dict__.get('id')}>"


class IntBaseTableModel(BaseTableModel):
    """A `BaseTableModel` whose `id` is a number that the database increments."""

    __abstract__ = True

    id: Mapped[int] = mapped_column(  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]
        BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True, sort_order=-1
    )


def snake_case(name: str) -> str:
    """`BookmarkFolder` becomes `bookmark_folder`, and `HTTPServer` becomes `http_server`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def model_of(generic: Any, origin: type[Any]) -> type[Any]:
    """The model of a `Repository` or a `CRUDService`: the first type argument of the class or of a base class."""
    classes = generic.__mro__ if isinstance(generic, type) else ()
    for base in (generic, *(base for cls in classes for base in vars(cls).get("__orig_bases__", ()))):
        named = get_args(base)[:1]
        if isinstance(cls := get_origin(base), type) and issubclass(cls, origin) and isinstance(named[0], type):
            return named[0]
    raise AppKitError(f"{generic.__name__} doesn't say which model it is for. Write {origin.__name__}[Post].")


@event.listens_for(Base, "before_mapper_configured", propagate=True)
def _apply_conventions(mapper: Mapper[Any], cls: type[Base]) -> None:
    mapper.eager_defaults = True  # The INSERT or UPDATE returns server defaults, without a later query.
    for relationship in mapper.relationships:
        if relationship.lazy == "select":
            refuse_lazy_loading(relationship)
    for attribute in mapper.column_attrs:
        if isinstance(kind := attribute.columns[0].type, JSONOf):
            check = kind.validate
            event.listen(attribute.class_attribute, "set", lambda _, value, *__, check=check: check(value), retval=True)
    for column in mapper.local_table.columns:
        if any(isinstance(constraint, CheckConstraint) for constraint in column.constraints):
            raise AppKitError(
                f"{cls.__name__}.{column.key} has a column CHECK, which migrations would lose. "
                "Move it to the table: __table_args__ = (CheckConstraint(…, name=…),)."
            )
