"""The same operations on the same table, written as each library's documentation does.

All use appkit's engine, so only the libraries differ, not the connection pool or the driver.
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
    """The table that is filled before the measurements."""

    __table_args__ = (Index(None, "created_at", "id"),)

    title: Mapped[str]
    pages: Mapped[int]


class Leaf(BaseTableModel):
    """The table for bulk inserts, emptied after each turn."""

    title: Mapped[str]
    pages: Mapped[int]


class BookCreate(BaseModel):
    """The fields of a new book."""

    title: str
    pages: int


class BookUpdate(BaseModel):
    """The fields of a book that can be changed."""

    title: str | None = None


class BookSchema(BookCreate):
    """A book in a response."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID


class Service(CRUDService[Book, BookCreate, BookUpdate]):
    """appkit's service."""


class Query(PageQuery):
    """appkit's offset pages."""

    sortable = {"created_at": Book.created_at}  # noqa: RUF012 - a ClassVar by its base
    default_sort = "-created_at"


class Cursor(CursorQuery):
    """appkit's keyset pages."""

    sortable = Query.sortable
    default_sort = "-created_at"


class AlchemyRepository(SQLAlchemyAsyncRepository[Book]):
    """Advanced Alchemy's repository."""

    model_type = Book


class AlchemyService(SQLAlchemyAsyncRepositoryService[Book, AlchemyRepository]):
    """Advanced Alchemy's service."""

    repository_type = AlchemyRepository


class Contest:
    """The operations of all libraries on one database.

    Args:
        database: The database.
        ident: Primary key of the row that is read and updated.
    """

    def __init__(self, database: Database, ident: UUID) -> None:
        self.database = database
        self.ident = ident
        self.plain = async_sessionmaker(database.engine, expire_on_commit=False)
        self.plain_reader = async_sessionmaker(database.readers, expire_on_commit=False)
        self.fast: FastCRUD[Book, BookCreate, BookUpdate, BookUpdate, BookUpdate, BookSchema] = FastCRUD(Book)
        self.numbers = count()

    def get(self) -> dict[str, Operation]:
        """Get one row by its primary key, in a session that can write."""
        return {PLAIN: self._plain_get, OURS: self._get, ALCHEMY: self._alchemy_get, FASTCRUD: self._fast_get}

    def get_reading(self) -> dict[str, Operation]:
        """Get one row by its primary key, in a read session."""
        return {PLAIN: self._plain_get_reading, OURS: self._get_reading}

    def create(self) -> dict[str, Operation]:
        """Create a row and commit."""
        return {
            PLAIN: self._plain_create,
            OURS: self._create,
            ALCHEMY: self._alchemy_create,
            FASTCRUD: self._fast_create,
        }

    def update(self) -> dict[str, Operation]:
        """Get a row, update it and commit."""
        return {
            PLAIN: self._plain_update,
            OURS: self._update,
            ALCHEMY: self._alchemy_update,
            FASTCRUD: self._fast_update,
        }

    def page(self) -> dict[str, Operation]:
        """Read the latest twenty rows and the total."""
        return {OURS: self._page, ALCHEMY: self._alchemy_page, FASTCRUD: self._fast_page}

    def fill(self, rows: int) -> dict[str, Operation]:
        """Insert many rows at once, from objects."""

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
