"""Repository: read, page, create, update, upsert and delete the rows of one model."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar, cast, overload

from pydantic import BaseModel
from sqlalchemy import ColumnElement, CursorResult, Delete, Select, Update, delete, literal, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import QueryableAttribute, class_mapper
from sqlalchemy.orm.interfaces import ORMOption

from appkit.exceptions import AppKitError, NotFoundException, StaleVersionException
from appkit.repository.base import model_of, utcnow
from appkit.repository.errors import constraint_violated
from appkit.repository.filters import CursorQuery, PageQuery
from appkit.repository.mixins import SoftDelete, Versioned
from appkit.repository.pagination import (
    KeysetPage,
    OffsetPage,
    Order,
    count_rows,
    in_order,
    keyset_page,
    offset_page,
    primary_key,
)
from appkit.repository.upsert import insert_or_nothing, insert_or_update

ModelT = TypeVar("ModelT")
Data = BaseModel | Mapping[str, Any]
Condition = ColumnElement[bool]
Key = Sequence[QueryableAttribute[Any]]


class Repository(Generic[ModelT]):
    """The rows of one model.

        await Repository[Post](db).list(Post.author_id == author_id, order=[Post.created_at.desc()])

        class PostRepository(Repository[Post]):
            def select(self) -> Select[Post]:
                return super().select().where(Post.published_at.is_not(None)).options(selectinload(Post.tags))

    A repository flushes and never commits. The code that opened the session ends the transaction.

    Args:
        db: The database session.
        model: The model, if there is no type argument.
        include_deleted: Include the deleted rows of a `SoftDelete` model.

    Raises:
        AppKitError: When no model is named, or data has fields that the model lacks.
    """

    def __init__(self, db: AsyncSession, model: type[ModelT] | None = None, *, include_deleted: bool = False) -> None:
        self.db = db
        self.include_deleted = include_deleted
        if model is not None:
            self.model = model

    @cached_property
    def model(self) -> type[ModelT]:
        """The class of the rows."""
        return model_of(getattr(self, "__orig_class__", type(self)), Repository)

    def select(self) -> Select[ModelT]:
        """The query for all rows. Every method that reads rows uses it, and so do `update_where` and `delete_where`.

        Override it to filter rows or to load their relationships. It must have no order.
        """
        return select(self.model)

    # Reading

    async def get(self, ident: Any, *, options: Sequence[ORMOption] = (), for_update: bool = False) -> ModelT:
        """The row with this primary key, which is a tuple if it has several columns.

        `for_update` reads the row again, and locks it until the transaction ends.

        Raises:
            NotFoundException: When there is no such row.
        """
        return _found(await self.get_or_none(ident, options=options, for_update=for_update))

    async def get_or_none(
        self, ident: Any, *, options: Sequence[ORMOption] = (), for_update: bool = False
    ) -> ModelT | None:
        """Like `get`, but None when there is no such row."""
        if options or self._narrowed:
            values = ident if isinstance(ident, tuple) else (ident,)
            keys = zip(primary_key(self.model), values, strict=True)
            statement = self._rows(key == value for key, value in keys).options(*options)
            if for_update:
                statement = statement.with_for_update(of=self.model).execution_options(populate_existing=True)
            return (await self.db.scalars(statement)).unique().one_or_none()
        row = await self.db.get(
            self.model,
            ident,
            populate_existing=for_update,
            with_for_update={"of": self.model} if for_update else None,
            execution_options={"include_deleted": True} if self.include_deleted else {},
        )
        # If the session has loaded the row before, get() sends no query, so the row may be softly deleted.
        hidden = isinstance(row, SoftDelete) and row.deleted_at is not None and not self.include_deleted
        return None if hidden else row

    async def first(self, *where: Condition, order: Order = (), options: Sequence[ORMOption] = ()) -> ModelT | None:
        """The first row that meets the conditions, by `order` and then by primary key."""
        rows = await self.list(*where, order=order, limit=1, options=options)
        return rows[0] if rows else None

    async def one(self, *where: Condition, options: Sequence[ORMOption] = ()) -> ModelT:
        """The only row that meets the conditions.

        Raises:
            NotFoundException: When there is no such row.
            MultipleResultsFound: When there are several rows, which is a bug in the program.
        """
        return _found((await self.db.scalars(self._rows(where).options(*options))).unique().one_or_none())

    async def list(
        self, *where: Condition, order: Order = (), limit: int | None = None, options: Sequence[ORMOption] = ()
    ) -> Sequence[ModelT]:
        """The rows that meet the conditions, by `order` and then by primary key."""
        statement = in_order(self._rows(where), order).limit(limit).options(*options)
        return (await self.db.scalars(statement)).unique().all()

    @overload
    async def page(self, query: PageQuery, *where: Condition) -> OffsetPage[ModelT]: ...
    @overload
    async def page(self, query: CursorQuery, *where: Condition) -> KeysetPage[ModelT]: ...
    async def page(self, query: PageQuery | CursorQuery, *where: Condition) -> OffsetPage[ModelT] | KeysetPage[ModelT]:
        """One page of the rows that meet the conditions of `query` and of `where`.

        Raises:
            UnprocessableException: When the cursor is damaged, or belongs to another order.
        """
        statement, order = self._rows((*query.where(), *where)), query.order()
        if isinstance(query, CursorQuery):
            return await keyset_page(self.db, statement, order=order, cursor=query.cursor, size=query.size)
        return await offset_page(self.db, statement, order=order, page=query.page, size=query.size, count=query.count)

    async def stream(self, *where: Condition, batch: int = 1000) -> AsyncIterator[ModelT]:
        """All rows that meet the conditions, fetched in batches, in the order of the primary key.

        You may end the transaction between two rows.
        """
        cursor: str | None = None
        while True:
            page = await keyset_page(self.db, self._rows(where), order=(), cursor=cursor, size=batch)
            for row in page.items:
                yield row
            if (cursor := page.next_cursor) is None:
                return

    async def count(self, *where: Condition) -> int:
        """How many rows meet the conditions."""
        return await count_rows(self.db, self._rows(where))

    async def exists(self, *where: Condition) -> bool:
        """Whether a row meets the conditions."""
        statement = self._rows(where).with_only_columns(literal(1), maintain_column_froms=True)
        return await self.db.scalar(statement.order_by(None).limit(1)) is not None

    # Writing

    def new(self, data: Data, /, **extra: Any) -> ModelT:
        """A row with all fields of a schema or a mapping, and `extra`. This method doesn't write the row."""
        return self.model(**self._known({**_fields(data), **extra}))

    async def create(self, data: Data, /, **extra: Any) -> ModelT:
        """Write a new row with all fields of a schema or a mapping, and `extra`."""
        return await self._save(self.new(data, **extra))

    async def create_many(self, rows: Iterable[Data | ModelT]) -> Sequence[ModelT]:
        """Write many new rows, in as few statements as the database allows."""
        made = [row if isinstance(row, self.model) else self.new(cast("Data", row)) for row in rows]
        self.db.add_all(made)
        await self.db.flush()
        return made

    async def update(self, row: ModelT, data: Data, /, *, expected_version: int | None = None, **extra: Any) -> ModelT:
        """Update a row with the fields of a schema or a mapping, and `extra`. Unset fields of a schema are skipped.

        For a `Versioned` model, pass the version of the row that the user has read before the edit: as the field
        `version` of `data`, or as `expected_version`.

        Raises:
            StaleVersionException: When the row has another version now.
        """
        values = self._known({**_fields(data, exclude_unset=True), **extra})
        if isinstance(row, Versioned):
            expected = values.pop("version", expected_version)
            if expected is not None and expected != row.version:
                raise StaleVersionException
        for name, value in values.items():
            setattr(row, name, value)
        return await self._save(row)

    async def delete(self, row: ModelT, *, hard: bool = False) -> None:
        """Delete a row and remove it from the session. Without `hard`, a `SoftDelete` row is only hidden."""
        if isinstance(row, SoftDelete) and not hard:
            row.deleted_at = utcnow()
            self.db.expunge(await self._save(row))
        else:
            await self.db.delete(row)
            await self.db.flush()

    async def restore(self, row: ModelT) -> ModelT:
        """Restore a deleted row of a `SoftDelete` model. A repository with `include_deleted` finds deleted rows.

        If another row has the same unique value now, this raises `ConstraintViolatedException` (409).
        """
        if not isinstance(row, SoftDelete):
            raise AppKitError(f"{self.model.__name__} is not a SoftDelete model, so deleted rows can't be restored.")
        row.deleted_at = None
        return await self._save(row)

    # Writing without reading first

    async def upsert(self, rows: Iterable[Data], *, on: Key) -> Sequence[ModelT]:
        """Insert rows, or update existing rows, in one statement that is safe under concurrency; returns all of them.

        If two of the `rows` have the same key, only the last one is written. A deleted row of a `SoftDelete` model is
        restored.

        Args:
            rows: Schemas or mappings, all with the same columns.
            on: The key: the columns of the primary key, or of a unique constraint or index.
        """
        mapper = class_mapper(self.model)
        known = [self._known(_fields(row), mapper.columns) for row in rows]
        by_key = {tuple(row[column.key] for column in on): row for row in known}
        if not by_key:
            return []
        names, *others = {frozenset(row) for row in known}
        if others:
            raise AppKitError("The rows of one upsert must all have the same columns.")
        statement = insert_or_update(self.db, mapper, on, names).returning(self.model)
        options = {"populate_existing": True}  # Objects in the session get the new values.
        return (await self.db.scalars(statement, list(by_key.values()), execution_options=options)).all()

    async def get_or_create(self, data: Data, *, on: Key) -> tuple[ModelT, bool]:
        """The row with this key, or a new row, and whether the row is new. Only one of concurrent callers gets True.

        `data` has all values of the row. `on` has the columns of the key, as for `upsert`.

        Raises:
            ConstraintViolatedException: When the row with this key is hidden by `select()` or by soft deletion.
        """
        mapper = class_mapper(self.model)
        values = self._known(_fields(data), mapper.columns)
        same = [column == values[column.key] for column in on]
        if (row := await self.first(*same)) is not None:
            return row, False
        statement = insert_or_nothing(self.db, mapper, on).returning(self.model)
        if (row := (await self.db.scalars(statement, [values])).one_or_none()) is not None:
            return row, True
        if (row := await self.first(*same)) is not None:
            return row, False
        raise constraint_violated("unique", [column.key for column in on])

    async def update_where(self, *where: Condition, values: Data) -> int:
        """Update all rows that meet the conditions, in one statement. Returns the number of updated rows."""
        columns = self._known(_fields(values, exclude_unset=True), class_mapper(self.model).columns)
        if issubclass(self.model, Versioned):
            columns["version"] = self.model.version + 1
        return await self._execute(update(self.model).values(columns), where, include_deleted=self.include_deleted)

    async def delete_where(self, *where: Condition, hard: bool = False) -> int:
        """Delete all rows that meet the conditions, in one statement. Returns the number of deleted rows.

        `hard` deletes rows of a `SoftDelete` model permanently, hidden rows too.
        """
        if issubclass(self.model, SoftDelete) and not hard:
            return await self.update_where(*where, values={"deleted_at": utcnow()})
        return await self._execute(delete(self.model), where, include_deleted=hard or self.include_deleted)

    async def _save(self, row: ModelT) -> ModelT:
        self.db.add(row)
        await self.db.flush()
        return row

    async def _execute(self, statement: Update | Delete, where: Sequence[Condition], *, include_deleted: bool) -> int:
        if not where:
            raise AppKitError("No condition was given. To change or delete all rows, pass sqlalchemy.true().")
        if self._narrowed:
            keys = primary_key(self.model)
            seen = self.select().where(*where).with_only_columns(*keys, maintain_column_froms=True)
            where = [tuple_(*keys).in_(seen.order_by(None))]
        options = {"include_deleted": include_deleted}
        result = await self.db.execute(statement.where(*where), execution_options=options)
        return cast("CursorResult[Any]", result).rowcount

    @property
    def _narrowed(self) -> bool:
        return type(self).select is not Repository.select

    def _rows(self, where: Iterable[Condition]) -> Select[ModelT]:
        statement = self.select().where(*where)
        return statement.execution_options(include_deleted=True) if self.include_deleted else statement

    def _known(self, values: dict[str, Any], names: Any = None) -> dict[str, Any]:
        names = class_mapper(self.model).all_orm_descriptors if names is None else names
        if unknown := [name for name in values if name not in names]:
            raise AppKitError(f"{self.model.__name__} has no {', '.join(unknown)}.")
        return values


def _fields(data: Data, *, exclude_unset: bool = False) -> dict[str, Any]:
    return data.model_dump(exclude_unset=exclude_unset) if isinstance(data, BaseModel) else dict(data)


def _found(row: ModelT | None) -> ModelT:
    if row is None:
        raise NotFoundException
    return row
