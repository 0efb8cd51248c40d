"""The same moves on the same table, as each library's own documentation writes them.

All share appkit's engine, so that what differs is the libraries, never the pool or the driver.
"""

from itertools import count
from uuid import UUID

from advanced_alchemy.filters import LimitOffset, OrderBy
from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from advanced_alchemy.service import SQLAlchemyAsyncRepositoryService
from fastcrud import FastCRUD
from measure import Operation
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Index
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Mapped

from appkit import BaseTableModel
from appkit.repository.database import Database
from appkit.repository.filters import CursorQuery, PageQuery
from appkit.repository.repository import Repository
from appkit.service.crud import CRUDService

PLAIN, OURS, ALCHEMY, FASTCRUD = "SQLAlchemy", "appkit", "Advanced Alchemy", "FastCRUD"


class Book(BaseTableModel):
    """The table of as many rows as are asked for."""

    __table_args__ = (Index(None, "created_at", "id"),)

    title: Mapped[str]
    pages: Mapped[int]


class Leaf(BaseTableModel):
    """The table that is filled at one go, and emptied again."""

    title: Mapped[str]
    pages: Mapped[int]


class BookCreate(BaseModel):
    """What a book is made of."""

    title: str
    pages: int


class BookUpdate(BaseModel):
    """What of a book may change."""

    title: str | None = None


class BookSchema(BookCreate):
    """A book as an API answers it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID


class Service(CRUDService[Book, BookCreate, BookUpdate]):
    """Ours."""


class Query(PageQuery):
    """Ours, by number."""

    sortable = {"created_at": Book.created_at}  # noqa: RUF012 - a ClassVar by its base
    default_sort = "-created_at"


class Cursor(CursorQuery):
    """Ours, by keyset."""

    sortable = Query.sortable
    default_sort = "-created_at"


class AlchemyRepository(SQLAlchemyAsyncRepository[Book]):
    """Advanced Alchemy's."""

    model_type = Book


class AlchemyService(SQLAlchemyAsyncRepositoryService[Book, AlchemyRepository]):
    """Advanced Alchemy's."""

    repository_type = AlchemyRepository


class Contest:
    """The moves of all of them on one database.

    Args:
        database: The database.
        ident: The row that is read and changed.
    """

    def __init__(self, database: Database, ident: UUID) -> None:
        self.database = database
        self.ident = ident
        self.plain = async_sessionmaker(database.engine, expire_on_commit=False)
        self.plain_reader = async_sessionmaker(database.readers, expire_on_commit=False)
        self.fast: FastCRUD[Book, BookCreate, BookUpdate, BookUpdate, BookUpdate, BookSchema] = FastCRUD(Book)
        self.numbers = count()

    def get(self) -> dict[str, Operation]:
        """One row by its primary key, in a session that may write."""
        return {PLAIN: self._plain_get, OURS: self._get, ALCHEMY: self._alchemy_get, FASTCRUD: self._fast_get}

    def get_reading(self) -> dict[str, Operation]:
        """The same in a session that only reads."""
        return {PLAIN: self._plain_get_reading, OURS: self._get_reading}

    def create(self) -> dict[str, Operation]:
        """A new row, and its commit."""
        return {
            PLAIN: self._plain_create,
            OURS: self._create,
            ALCHEMY: self._alchemy_create,
            FASTCRUD: self._fast_create,
        }

    def update(self) -> dict[str, Operation]:
        """A row read, changed and committed."""
        return {
            PLAIN: self._plain_update,
            OURS: self._update,
            ALCHEMY: self._alchemy_update,
            FASTCRUD: self._fast_update,
        }

    def page(self) -> dict[str, Operation]:
        """The latest twenty rows, and how many there are."""
        return {OURS: self._page, ALCHEMY: self._alchemy_page, FASTCRUD: self._fast_page}

    def fill(self, rows: int) -> dict[str, Operation]:
        """Many new rows at one go, from objects."""

        def leaves() -> list[Leaf]:
            return [Leaf(title="Leaf", pages=number) for number in range(rows)]

        async def plain() -> None:
            async with self.plain() as db:
                db.add_all(leaves())
                await db.commit()

        async def ours() -> None:
            async with self.database.session() as db:
                await Repository[Leaf](db).create_many(leaves())

        async def mappings() -> None:
            async with self.database.session() as db:
                await Repository[Leaf](db).create_many({"title": "Leaf", "pages": number} for number in range(rows))

        return {PLAIN: plain, OURS: ours, f"{OURS}, mappings": mappings}

    def _created(self) -> BookCreate:
        return BookCreate(title=f"Title {next(self.numbers)}", pages=100)

    def _changed(self) -> BookUpdate:
        return BookUpdate(title=f"Title {next(self.numbers)}")

    # SQLAlchemy

    async def _plain_get(self) -> None:
        async with self.plain() as db:
            await db.get_one(Book, self.ident)

    async def _plain_get_reading(self) -> None:
        async with self.plain_reader() as db:
            await db.get_one(Book, self.ident)

    async def _plain_create(self) -> None:
        data = self._created()
        async with self.plain() as db:
            db.add(Book(title=data.title, pages=data.pages))
            await db.commit()

    async def _plain_update(self) -> None:
        data = self._changed()
        async with self.plain() as db:
            book = await db.get_one(Book, self.ident)
            book.title = data.title or book.title
            await db.commit()

    # Ours

    async def _get(self) -> None:
        async with self.database.session() as db:
            await Service(db).get(self.ident)

    async def _get_reading(self) -> None:
        async with self.database.read_session() as db:
            await Service(db).get(self.ident)

    async def _create(self) -> None:
        data = self._created()
        async with self.database.session() as db:
            await Service(db).create(data)

    async def _update(self) -> None:
        data = self._changed()
        async with self.database.session() as db:
            await Service(db).update(self.ident, data)

    async def _page(self) -> None:
        async with self.database.session() as db:
            await Service(db).page(Query())

    # Advanced Alchemy

    async def _alchemy_get(self) -> None:
        async with self.plain() as db:
            await AlchemyService(session=db).get(self.ident)

    async def _alchemy_create(self) -> None:
        data = self._created()
        async with self.plain() as db:
            await AlchemyService(session=db).create(data)
            await db.commit()

    async def _alchemy_update(self) -> None:
        data = self._changed()
        async with self.plain() as db:
            await AlchemyService(session=db).update(data, item_id=self.ident)
            await db.commit()

    async def _alchemy_page(self) -> None:
        async with self.plain() as db:
            await AlchemyService(session=db).list_and_count(LimitOffset(20, 0), OrderBy("created_at", "desc"))

    # FastCRUD

    async def _fast_get(self) -> None:
        async with self.plain() as db:
            await self.fast.get(db, id=self.ident)

    async def _fast_create(self) -> None:
        data = self._created()
        async with self.plain() as db:
            await self.fast.create(db, data)

    async def _fast_update(self) -> None:
        data = self._changed()
        async with self.plain() as db:
            await self.fast.get(db, id=self.ident)
            await self.fast.update(db, data, id=self.ident)

    async def _fast_page(self) -> None:
        async with self.plain() as db:
            await self.fast.get_multi(db, limit=20, sort_columns="created_at", sort_orders="desc")
