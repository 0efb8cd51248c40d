"""BaseTableModel: what every table has in common, and the conventions behind it."""

import re
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from enum import Enum
from secrets import randbits
from typing import Any, ClassVar, Literal
from uuid import UUID

from sqlalchemy import JSON, CheckConstraint, DateTime, Dialect, Enum as EnumType, Interval, MetaData, event, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, declared_attr, has_inherited_table, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

from appkit.exceptions import AppKitError
from appkit.repository.json import JSONOf
from appkit.repository.queries import refuse_lazy_loading

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""How constraints are called, so that a migration can name the one it drops."""


def utcnow() -> datetime:
    """The present, in UTC and aware of it."""
    return datetime.now(UTC)


if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    _uuid7_lock = threading.Lock()
    _uuid7_latest = 0

    def uuid7() -> UUID:
        """A UUID that sorts by age, after all that this process made before (RFC 9562, 5.7)."""
        global _uuid7_latest  # noqa: PLW0603 - ids of one process are ordered only if it remembers the latest
        now = time.time_ns() // 1_000_000 << 74
        with _uuid7_lock:  # "Monotonic Random", RFC 9562, 6.2, method 2
            _uuid7_latest = number = max(now | randbits(73), _uuid7_latest + 1 + randbits(32))
        return UUID(int=number >> 74 << 80 | 7 << 76 | (number >> 62 & 0xFFF) << 64 | 2 << 62 | number & (1 << 62) - 1)


class UTCDateTime(TypeDecorator[datetime]):
    """A moment: always aware and always UTC when read, whatever zone it was written in.

    Raises:
        ValueError: When a naive datetime is written, for nobody knows which moment it means.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - asked for
        """To UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("This datetime has no time zone. Use datetime.now(UTC), or parse it with its offset.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - asked for
        """From UTC, which SQLite keeps without saying so."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:  # noqa: ARG002 - asked for
        """A moment plus a timedelta is a moment."""
        return Interval() if isinstance(value, timedelta) else self


# A native enum would need a migration for each new member, and its type outlives its table. What is no member is
# refused when it is written, for nobody could read it.
_ENUM: Any = {"native_enum": False, "length": 64, "validate_strings": True}
_JSON = JSON().with_variant(JSONB(), "postgresql")


class Base(DeclarativeBase):
    """The registry of an app's tables: their metadata, constraint names, and what Python's types become.

    Relationships that no query loaded raise when they are read, rather than query behind your back: load them with
    `options(selectinload(…))`, or say `lazy=` yourself.
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

    The table is called as its class, in snake case, unless it says `__tablename__`.
    """

    __abstract__ = True

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7, sort_order=-1)
    # The server's default is for rows written by hand; its spelling is the one that every database reads.
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


def snake_case(name: str) -> str:
    """`BookmarkFolder` is `bookmark_folder`, and `HTTPServer` is `http_server`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@event.listens_for(Base, "before_mapper_configured", propagate=True)
def _apply_conventions(mapper: Mapper[Any], cls: type[Base]) -> None:
    mapper.eager_defaults = True  # What the database fills in is read with the INSERT or UPDATE, never later.
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
                f"{cls.__name__}.{column.key} has a CHECK of its own, which migrations would lose. "
                "Move it to the table: __table_args__ = (CheckConstraint(…, name=…),)."
            )
