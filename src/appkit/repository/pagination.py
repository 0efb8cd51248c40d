"""Pagination: pages by cursor (keyset) and by page number, as results and as API schemas."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import to_jsonable_python
from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    UnaryExpression,
    and_,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, Mapper, class_mapper
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression

from appkit.exceptions import AppKitError, UnprocessableException

T = TypeVar("T")
ModelT = TypeVar("ModelT")
Count = Literal["exact", "capped", "none"]

CAP = 10_000
"""The limit of a capped count."""


@dataclass(frozen=True)
class KeysetPage(Generic[ModelT]):
    """One page of a query's rows, and the cursor of the next."""

    items: list[ModelT]
    next_cursor: str | None
    """The cursor for the next call; None on the last page."""


@dataclass(frozen=True)
class OffsetPage(Generic[ModelT]):
    """One page of a query's rows, by number from 1."""

    items: list[ModelT]
    page: int
    size: int
    total: int | None
    """How many rows there are; None if they were not counted, or if there are more than a capped count allows."""
    has_next: bool

    @property
    def pages(self) -> int | None:
        """How many pages there are; None if `total` is None."""
        return None if self.total is None else -(-self.total // self.size)


class CursorPage(BaseModel, Generic[T]):
    """The response schema of a page by cursor: `-> CursorPage[PostSchema]`."""

    model_config = ConfigDict(from_attributes=True)

    items: list[T]
    next_cursor: str | None = Field(default=None, description="For the next page's `cursor`; null on the last one.")


class Page(BaseModel, Generic[T]):
    """The response schema of a page by number: `-> Page[PostSchema]`."""

    model_config = ConfigDict(from_attributes=True)

    items: list[T]
    page: int
    size: int
    total: int | None = Field(description="How many there are; null where they are not counted.")
    pages: int | None = Field(description="How many pages there are; null where `total` is.")
    has_next: bool


@dataclass(frozen=True)
class _Key:
    column: Any  # SQLAlchemy has no type for both a column and an attribute that acts as one.
    descending: bool


async def keyset_page(
    session: AsyncSession,
    query: Select[ModelT],
    *,
    order: Sequence[SQLColumnExpression[Any]],
    cursor: str | None = None,
    size: int = 20,
) -> KeysetPage[ModelT]:
    """The rows of a query that come after a cursor.

        await keyset_page(db, select(Post), order=[Post.created_at.desc()], cursor=cursor)

    The primary key is added, so that the order is unique. Create one index on these columns, in this order.

    Args:
        session: The database session.
        query: A select of one model, without an order or a limit.
        order: Columns that are never NULL, each with `.desc()` or `.asc()`.
        cursor: The `next_cursor` of the page before.
        size: How many rows at most.

    Raises:
        UnprocessableException: When the cursor is damaged, or belongs to another order.
        AppKitError: When a column of the order is nullable and the query doesn't exclude NULL.
    """
    keys = _keys(query, order)
    _refuse_null(query, keys)
    statement = _ordered(query, keys)
    if cursor is not None:
        statement = statement.where(_after(keys, _decode(cursor, keys)))
    columns = [key.column for key in keys]
    rows = (await session.execute(statement.add_columns(*columns).limit(size + 1))).unique().all()
    items = [row[0] for row in rows[:size]]
    return KeysetPage(items, _encode(keys, to_jsonable_python(list(rows[size - 1][1:]))) if len(rows) > size else None)


async def offset_page(
    session: AsyncSession,
    query: Select[ModelT],
    *,
    order: Sequence[SQLColumnExpression[Any]] = (),
    page: int = 1,
    size: int = 20,
    count: Count = "exact",
) -> OffsetPage[ModelT]:
    """One page of a query's rows, by number. Deep pages are slow.

    The last page needs no COUNT: its length gives the total.

    Args:
        session: The database session.
        query: A select of one model, without an order or a limit.
        order: Columns, each with `.desc()` or `.asc()`; the primary key is added.
        page: The page's number, from 1.
        size: How many rows at most.
        count: Count all rows, up to `CAP` of them, or none.
    """
    start = (page - 1) * size
    statement = in_order(query, order).offset(start).limit(size + 1)
    rows = (await session.scalars(statement)).unique().all()
    has_next = len(rows) > size
    total: int | None = start + len(rows)
    if has_next or (not rows and page > 1):
        total = None if count == "none" else await count_rows(session, query, CAP + 1 if count == "capped" else None)
        if count == "capped" and total is not None and total > CAP:
            total = None
    return OffsetPage(list(rows[:size]), page, size, total, has_next)


async def count_rows(session: AsyncSession, query: Select[Any], limit: int | None = None) -> int:
    """How many rows a query has. Counting stops at `limit`."""
    keys = primary_key(query.column_descriptions[0]["entity"])
    rows = query.with_only_columns(*keys, maintain_column_froms=True).order_by(None).limit(limit)
    statement = select(func.count()).select_from(rows.subquery()).execution_options(**query.get_execution_options())
    return await session.scalar(statement) or 0


def primary_key(model: type[Any]) -> list[InstrumentedAttribute[Any]]:
    """The attributes of a model's primary key."""
    mapper: Mapper[Any] = class_mapper(model)
    return [mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key]


def in_order(query: Select[ModelT], order: Sequence[SQLColumnExpression[Any]]) -> Select[ModelT]:
    """The query with this order instead of its own. The primary key comes last, so that the order is unique."""
    return _ordered(query, _keys(query, order))


def _ordered(query: Select[ModelT], keys: Sequence[_Key]) -> Select[ModelT]:
    return query.order_by(None).order_by(*(k.column.desc() if k.descending else k.column.asc() for k in keys))


def _keys(query: Select[Any], order: Sequence[SQLColumnExpression[Any]]) -> list[_Key]:
    keys = [_key(column) for column in order]
    descending = keys[-1].descending if keys else False
    for attribute in primary_key(query.column_descriptions[0]["entity"]):
        known = (attribute, *attribute.property.columns)
        if not any(same.compare(key.column) for key in keys for same in known):
            keys.append(_Key(attribute, descending))
    return keys


def _refuse_null(query: Select[Any], keys: Sequence[_Key]) -> None:
    for key in keys:
        if getattr(key.column, "nullable", False) and not _excludes_null(query, key.column):
            raise AppKitError(
                f"{key.column} may be NULL, and pages would skip such rows. "
                f"Add .where({key.column}.is_not(None)), or order by something else."
            )


def _key(column: SQLColumnExpression[Any]) -> _Key:
    if isinstance(column, UnaryExpression) and column.modifier in (operators.desc_op, operators.asc_op):
        return _Key(column.element, column.modifier is operators.desc_op)
    return _Key(column, descending=False)


def _excludes_null(query: Select[Any], column: ColumnElement[Any]) -> bool:
    if query.whereclause is None:
        return False
    return any(
        isinstance(part, BinaryExpression) and part.operator is operators.is_not and part.left.compare(column)
        for part in visitors.iterate(query.whereclause)
    )


def _after(keys: Sequence[_Key], values: Sequence[Any]) -> ColumnElement[bool]:
    bound = [literal(value, key.column.type) for key, value in zip(keys, values, strict=True)]
    if len({key.descending for key in keys}) == 1:  # One direction: a row comparison, which can use the index.
        row, last = tuple_(*(key.column for key in keys)), tuple_(*bound)
        return row < last if keys[0].descending else row > last
    beyond: list[Any] = [operators.lt if key.descending else operators.gt for key in keys]
    alternatives = [
        and_(*(keys[j].column == bound[j] for j in range(i)), beyond[i](key.column, bound[i]))
        for i, key in enumerate(keys)
    ]
    # The other conditions imply this one, which lets the database start at the right place in the index.
    first = keys[0].column <= bound[0] if keys[0].descending else keys[0].column >= bound[0]
    return and_(first, or_(*alternatives))


def _encode(keys: Sequence[_Key], values: Sequence[Any]) -> str:
    """The cursor, with a checksum over values and order. It is not signed: a forged cursor only finds another page."""
    order = [f"{key.column} {key.descending}" for key in keys]
    checksum = blake2b(json.dumps([order, values]).encode(), digest_size=6).hexdigest()
    text = json.dumps([checksum, *values], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str, keys: Sequence[_Key]) -> list[Any]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        _, *values = json.loads(text)
        if _encode(keys, values) == cursor:
            types = [getattr(key.column.type, "impl_instance", key.column.type).python_type for key in keys]
            return [TypeAdapter(kind).validate_python(value) for kind, value in zip(types, values, strict=True)]
    except (ValueError, TypeError, RecursionError):
        pass
    raise UnprocessableException("The cursor is damaged or belongs to another order. Start again from the first page.")
