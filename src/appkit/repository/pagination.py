"""Pagination: pages by cursor (keyset) and by page number, as results and as API schemas."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import to_jsonable_python
from sqlalchemy import Select, SQLColumnExpression, UnaryExpression, and_, func, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, Mapper, class_mapper
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression

from appkit.exceptions import AppKitError, UnprocessableException

T = TypeVar("T")
ModelT = TypeVar("ModelT")
Count = Literal["exact", "capped", "none"]
Order = Sequence[SQLColumnExpression[Any]]

CAP = 10_000  # the limit of a capped count


@dataclass(frozen=True)
class KeysetPage(Generic[ModelT]):
    """One page of a query's rows. `next_cursor` is None on the last page."""

    items: list[ModelT]
    next_cursor: str | None


@dataclass(frozen=True)
class OffsetPage(Generic[ModelT]):
    """One page of a query's rows. The first page has the number 1."""

    items: list[ModelT]
    page: int
    size: int
    total: int | None
    """How many rows the query has. None if they were not counted, or if a capped count found more than `CAP`."""
    has_next: bool

    @property
    def pages(self) -> int | None:
        """How many pages the query has. None if `total` is None."""
        return None if self.total is None else -(-self.total // self.size)


class CursorPage(BaseModel, Generic[T]):
    """The response schema of a page by cursor: `-> CursorPage[PostSchema]`."""

    model_config = ConfigDict(from_attributes=True)

    items: list[T]
    next_cursor: str | None = Field(default=None, description="The `cursor` of the next page. null on the last page.")


class Page(BaseModel, Generic[T]):
    """The response schema of a page by number: `-> Page[PostSchema]`."""

    model_config = ConfigDict(from_attributes=True)

    items: list[T]
    page: int
    size: int
    total: int | None = Field(description="How many rows there are on all pages. null if they are not counted.")
    pages: int | None = Field(description="How many pages there are. null if `total` is null.")
    has_next: bool


@dataclass(frozen=True)
class _Key:
    column: Any  # A column or an attribute of a model. SQLAlchemy has no type for both.
    descending: bool


async def keyset_page(
    session: AsyncSession,
    query: Select[ModelT],
    *,
    order: Order,
    cursor: str | None = None,
    size: int = 20,
) -> KeysetPage[ModelT]:
    """The page of a query's rows after `cursor`, which is the `next_cursor` of the page before.

        await keyset_page(db, select(Post), order=[Post.created_at.desc()], cursor=cursor)

    The query selects one model and has no order or limit. The rows are sorted by `order` and then by primary key.
    Create one index on all these columns, in the same order.

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
    order: Order = (),
    page: int = 1,
    size: int = 20,
    count: Count = "exact",
) -> OffsetPage[ModelT]:
    """One page of a query's rows, by number from 1. Pages with a high number are slow.

    The query selects one model and has no order or limit. The rows are sorted by `order` and then by primary key.
    `count` says whether to count all rows (`exact`), up to `CAP` rows (`capped`), or none.
    """
    start = (page - 1) * size
    statement = in_order(query, order).offset(start).limit(size + 1)
    rows = (await session.scalars(statement)).unique().all()
    has_next = len(rows) > size
    total: int | None = start + len(rows)  # On the last page, this needs no COUNT.
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


def in_order(query: Select[ModelT], order: Order) -> Select[ModelT]:
    """The query, sorted by `order` and then by primary key. An order of the query itself is removed."""
    return _ordered(query, _keys(query, order))


def _ordered(query: Select[ModelT], keys: Sequence[_Key]) -> Select[ModelT]:
    return query.order_by(None).order_by(*(k.column.desc() if k.descending else k.column.asc() for k in keys))


def _keys(query: Select[Any], order: Order) -> list[_Key]:
    keys = [_key(column) for column in order]
    descending = keys[-1].descending if keys else False
    for attribute in primary_key(query.column_descriptions[0]["entity"]):
        known = (attribute, *attribute.property.columns)
        if not any(same.compare(key.column) for key in keys for same in known):
            keys.append(_Key(attribute, descending))
    return keys


def _refuse_null(query: Select[Any], keys: Sequence[_Key]) -> None:
    conditions = [part for part in visitors.iterate(query.whereclause) if isinstance(part, BinaryExpression)]
    not_null = [part.left for part in conditions if part.operator is operators.is_not]
    for key in keys:
        if getattr(key.column, "nullable", False) and not any(each.compare(key.column) for each in not_null):
            raise AppKitError(
                f"{key.column} may be NULL, and pages would skip such rows. "
                f"Add .where({key.column}.is_not(None)), or order by something else."
            )


def _key(column: SQLColumnExpression[Any]) -> _Key:
    if isinstance(column, UnaryExpression) and column.modifier in (operators.desc_op, operators.asc_op):
        return _Key(column.element, column.modifier is operators.desc_op)
    return _Key(column, descending=False)


def _after(keys: Sequence[_Key], values: Sequence[Any]) -> SQLColumnExpression[bool]:
    bound = [literal(value, key.column.type) for key, value in zip(keys, values, strict=True)]
    if len({key.descending for key in keys}) == 1:  # One direction: a row comparison, which can use the index.
        row, last = tuple_(*(key.column for key in keys)), tuple_(*bound)
        return row < last if keys[0].descending else row > last
    beyond: list[Any] = [operators.lt if key.descending else operators.gt for key in keys]
    alternatives = [
        and_(*(keys[j].column == bound[j] for j in range(i)), beyond[i](key.column, bound[i]))
        for i, key in enumerate(keys)
    ]
    # The alternatives imply this condition. With it, the database starts at the right place in the index.
    first = keys[0].column <= bound[0] if keys[0].descending else keys[0].column >= bound[0]
    return and_(first, or_(*alternatives))


def _encode(keys: Sequence[_Key], values: Sequence[Any]) -> str:
    """The cursor, with a checksum of values and order. No signature: a forged cursor only reads another page."""
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
