"""Relationships that were not loaded, and statements that run for each row."""

import logging
from collections.abc import AsyncIterable
from uuid import UUID

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.sse import EventSourceResponse
from httpx2 import ASGITransport, AsyncClient
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import ForeignKey, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapped, MappedAsDataclass, declared_attr, mapped_column, relationship, selectinload

from appkit.api.dependencies import DbSession, ReadSession, app_of as context_of
from appkit.api.middleware import RepeatedQueriesMiddleware
from appkit.core.settings import Settings
from appkit.kit import AppKit
from appkit.repository.base import Base, BaseTableModel, uuid7
from appkit.repository.database import Database
from appkit.testing.kits import settings_for_tests


class Shelf(BaseTableModel):
    __tablename__ = "queried_shelf"

    books: Mapped[list["ShelfBook"]] = relationship(back_populates="shelf")
    drawers: Mapped[list["Drawer"]] = relationship(lazy="selectin")


class ShelfBook(BaseTableModel):
    shelf_id: Mapped[UUID] = mapped_column(ForeignKey("queried_shelf.id"))
    shelf: Mapped[Shelf] = relationship(back_populates="books")


class Drawer(BaseTableModel):
    shelf_id: Mapped[UUID] = mapped_column(ForeignKey("queried_shelf.id"))


class OnShelf:
    """A mixin."""

    shelf_id: Mapped[UUID] = mapped_column(ForeignKey("queried_shelf.id"))

    @declared_attr
    @classmethod
    def shelf(cls) -> Mapped[Shelf]:
        return relationship()


class Ornament(OnShelf, BaseTableModel):
    kind: Mapped[str] = mapped_column(default="ornament")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "ornament"}  # noqa: RUF012 - SQLAlchemy's way


class Vase(Ornament):
    __mapper_args__ = {"polymorphic_identity": "vase"}  # noqa: RUF012 - SQLAlchemy's way


class Lamp(MappedAsDataclass, Base, kw_only=True):
    """A dataclass."""

    __tablename__ = "shelf_lamp"

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    shelf_id: Mapped[UUID] = mapped_column(ForeignKey("queried_shelf.id"))
    shelf: Mapped[Shelf] = relationship(init=False)


router = APIRouter(prefix="/shelves")


@router.get("/{id}/books")
async def read_one_by_one(id: UUID, db: ReadSession, *, count: int) -> int:  # noqa: A002 - the path's name
    for _ in range(count):
        await db.scalars(select(ShelfBook).where(ShelfBook.shelf_id == id))
    return count


@router.get("/{id}/events", response_class=EventSourceResponse)
async def follow_books(id: UUID, request: Request) -> AsyncIterable[int]:  # noqa: A002 - the path's name
    for number in range(12):
        async with context_of(request).database.read_session() as db:
            await db.scalars(select(ShelfBook).where(ShelfBook.shelf_id == id))
        yield number


@router.post("")
async def add_shelf(db: DbSession) -> UUID:
    shelf = Shelf(books=[ShelfBook() for _ in range(20)])
    db.add(shelf)
    await db.flush()
    return shelf.id


TABLES = ("queried_shelf", "shelf_book", "drawer", "ornament", "shelf_lamp")


@pytest.fixture
async def shelves(database_url):
    database = Database(database_url)
    tables = [Shelf.metadata.tables[name] for name in TABLES]
    async with database.engine.begin() as connection:
        await connection.run_sync(Shelf.metadata.create_all, tables)
    async with database.session() as db:
        db.add(Shelf(books=[ShelfBook(), ShelfBook()], drawers=[Drawer()]))
    yield database
    await database.dispose()


async def test_unloaded_relationship_says_how_to_load_it(shelves):
    async with shelves.read_session() as db:
        shelf = (await db.scalars(select(Shelf))).one()
        with pytest.raises(InvalidRequestError, match=r"^Shelf\.books was not .*\(selectinload\(Shelf\.books\)\)"):
            _ = shelf.books
        await db.refresh(shelf, ["books"])
        assert len(shelf.books) == 2
        assert shelf.books[0].shelf is shelf  # The session has the shelf, so no query is needed.
        assert len(shelf.drawers) == 1
    async with shelves.read_session() as db:
        book = (await db.scalars(select(ShelfBook).limit(1))).one()
        with pytest.raises(InvalidRequestError, match=r"selectinload\(ShelfBook\.shelf\).*\[\"shelf\"\]"):
            _ = book.shelf
    async with shelves.read_session() as db:
        shelf = (await db.scalars(select(Shelf).options(selectinload(Shelf.books)))).one()
        assert len(shelf.books) == 2


async def test_unloaded_relationship_cannot_be_appended_to(shelves):
    async with shelves.session() as db:
        shelf = (await db.scalars(select(Shelf))).one()
        with pytest.raises(InvalidRequestError, match=r"Shelf\.books was not loaded"):
            shelf.books.append(ShelfBook())
        db.add(ShelfBook(shelf_id=shelf.id))  # The foreign key is enough.
        await db.flush()
        await db.refresh(shelf, ["books"])
        assert len(shelf.books) == 3


@pytest.mark.parametrize("model", [Ornament, Vase, Lamp])
async def test_relationships_of_mixins_and_children_and_dataclasses_raise_too(shelves, model):
    async with shelves.session() as db:
        db.add(model(shelf_id=(await db.scalars(select(Shelf.id))).one()))
    async with shelves.read_session() as db:
        row = (await db.scalars(select(model))).one()
        with pytest.raises(InvalidRequestError, match=rf"{model.__name__}\.shelf was not loaded"):
            _ = row.shelf
        await db.refresh(row, ["shelf"])
        assert row.shelf.id == row.shelf_id


async def test_schema_over_an_unloaded_relationship_says_how_to_load_it(shelves):
    class ShelfSchema(BaseModel):
        model_config = ConfigDict(from_attributes=True)
        books: list[object]

    async with shelves.read_session() as db:
        shelf = (await db.scalars(select(Shelf))).one()
        with pytest.raises(ValidationError, match=r"\(selectinload\(Shelf\.books\)\)"):
            ShelfSchema.model_validate(shelf)


def app_of(database_url: str, environment: str) -> FastAPI:
    settings = settings_for_tests(Settings(), database_url).model_copy(update={"environment": environment})
    return AppKit(settings, routers=[router], discover=False).app


async def test_in_development_a_statement_that_runs_for_each_row_is_logged(database_url, caplog):
    app = app_of(database_url, "development")
    await app.state.appkit.database.create_all()
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        shelf = (await client.post("/api/shelves")).json()
        assert (await client.get(f"/api/shelves/{shelf}/books", params={"count": 10})).json() == 10
        assert len((await client.get(f"/api/shelves/{shelf}/events")).text.split("data:")) == 13
        assert [record for record in caplog.records if record.name == "appkit.api.middleware"] == []
        assert (await client.get(f"/api/shelves/{shelf}/books", params={"count": 11})).json() == 11
    [line] = [vars(record) for record in caplog.records if record.name == "appkit.api.middleware"]
    assert (line["levelno"], line["method"], line["path"], line["count"]) == (
        logging.WARNING,
        "GET",
        "/api/shelves/{id}/books",
        11,
    )
    assert "FROM shelf_book WHERE" in line["statement"]
    assert shelf not in line["statement"]
    await app.state.appkit.database.dispose()


def test_statements_are_counted_only_in_development(database_url):
    installed: list[object] = [middleware.cls for middleware in app_of(database_url, "test").user_middleware]
    assert RepeatedQueriesMiddleware not in installed
