"""Errors of the database, with all three drivers."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import Mapped, mapped_column

from appkit.exceptions import ConstraintViolatedException, StaleVersionException
from appkit.repository.base import BaseTableModel, uuid7
from appkit.repository.database import Database
from appkit.repository.errors import translate


class Shelf(BaseTableModel):
    __table_args__ = (
        UniqueConstraint("room", "number"),
        CheckConstraint("number > 0", name="number_counts"),
        Index("ix_shelf_any_case", func.lower(text("label")), unique=True),
        Index(None, "color", unique=True, sqlite_where=text("number > 5"), postgresql_where=text("number > 5")),
    )

    room: Mapped[str]
    number: Mapped[int]
    tag: Mapped[str] = mapped_column("db_tag", unique=True)
    label: Mapped[str | None]
    color: Mapped[str | None]
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's way


class Volume(BaseTableModel):
    shelf_id: Mapped[UUID] = mapped_column("db_shelf", ForeignKey("shelf.id", deferrable=True))


@pytest.fixture(params=["default", "psycopg"])
async def database(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Database]:
    if request.param == "psycopg":
        if database_url.startswith("sqlite"):
            pytest.skip("psycopg is a driver for PostgreSQL.")
        database_url = database_url.replace("asyncpg", "psycopg")
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(Shelf.metadata.tables["shelf"].create)
        await connection.run_sync(Volume.metadata.tables["volume"].create)
    async with database.session() as db:
        db.add(shelf())
    yield database
    await database.dispose()


def shelf(**given: Any) -> Shelf:
    return Shelf(**({"room": "secret", "number": 7, "tag": "secret", "label": "Secret", "color": "red"} | given))


OTHER = {"number": 8, "tag": "other", "label": "other", "color": "other"}


@pytest.mark.parametrize(
    ("row", "kind", "fields"),
    [
        (lambda: shelf(**OTHER | {"tag": "secret"}), "unique", ["tag"]),
        (lambda: shelf(**OTHER | {"number": 7}), "unique", ["room", "number"]),
        (lambda: shelf(**OTHER | {"color": "red"}), "unique", ["color"]),
        (lambda: shelf(**OTHER | {"label": "SECRET"}), "unique", []),
        (lambda: shelf(**OTHER | {"room": None}), "not_null", ["room"]),
        (lambda: shelf(**OTHER | {"number": -1}), "check", ["number"]),
        (lambda: Volume(shelf_id=uuid7()), "foreign_key", ["shelf_id"]),
    ],
    ids=["unique", "composite", "partial", "expression", "not null", "check", "foreign key"],
)
async def test_a_refused_row_names_its_fields_and_no_values(database, row, kind, fields):
    with pytest.raises(ConstraintViolatedException) as caught:
        async with database.session() as db:
            db.add(row())
    errors = caught.value.extra["errors"]
    assert [(error["field"], error["type"]) for error in errors] == [(field, kind) for field in fields]
    assert "secret" not in f"{caught.value} {caught.value.detail} {errors}".lower()


async def test_table_in_a_schema_is_not_confused_with_a_table_of_the_same_name(database):
    if database.sqlite:
        pytest.skip("SQLite has no schemas.")
    metadata = MetaData()
    ledger = Table("shelf", metadata, Column("code", String), UniqueConstraint("code", name="uq"), schema="ledgers")
    Table("shelf", metadata, Column("number", Integer), UniqueConstraint("number", name="uq"))
    other = Database(database.url.render_as_string(hide_password=False), metadata=metadata)
    async with other.session() as db:
        await db.execute(text("CREATE SCHEMA ledgers"))
        await (await db.connection()).run_sync(ledger.create)
    with pytest.raises(ConstraintViolatedException) as caught:
        async with other.session() as db:
            await db.execute(insert(ledger), [{"code": "secret"}, {"code": "secret"}])
    assert [error["field"] for error in caught.value.extra["errors"]] == ["code"]
    await other.dispose()


async def test_a_primary_key_that_is_taken_is_named(database):
    async with database.session() as db:
        identifier = await db.scalar(select(Shelf.id))
    with pytest.raises(ConstraintViolatedException) as caught:
        async with database.session() as db:
            await db.execute(insert(Shelf).values(id=identifier, room="x", **OTHER))
    assert [error["field"] for error in caught.value.extra["errors"]] == ["id"]


async def test_a_row_that_others_refer_to_is_a_conflict_without_a_field(database):
    async with database.session() as db:
        row = (await db.scalars(select(Shelf))).one()
        db.add(Volume(shelf_id=row.id))
    with pytest.raises(ConstraintViolatedException, match="refers to this") as caught:
        async with database.session() as db:
            await db.delete(await db.get_one(Shelf, row.id))
    assert caught.value.extra["errors"] == []


async def test_a_change_is_refused_like_a_new_row(database):
    async with database.session() as db:
        db.add(shelf(**OTHER))
    with pytest.raises(ConstraintViolatedException) as caught:
        async with database.session() as db:
            await db.execute(update(Shelf).where(Shelf.number == 8).values(tag="secret"))
    assert [error["field"] for error in caught.value.extra["errors"]] == ["tag"]


async def test_a_commit_that_fails_is_a_conflict_and_stores_nothing(database):
    async def add() -> None:
        async with database.session() as db:
            if database.sqlite:
                await db.execute(text("PRAGMA defer_foreign_keys = ON"))
            else:
                await db.execute(text("SET CONSTRAINTS ALL DEFERRED"))
            db.add(Volume(shelf_id=uuid7()))
            await db.flush()

    with pytest.raises(ConstraintViolatedException):
        await add()
    async with database.session() as db:
        assert await db.scalar(select(func.count()).select_from(Volume)) == 0


async def test_an_integrity_error_can_be_caught_around_a_savepoint(database):
    async with database.session() as db:
        with pytest.raises(IntegrityError):
            async with db.begin_nested():
                db.add(shelf())
        db.add(shelf(**OTHER))
    async with database.read_session() as db:
        assert await db.scalar(select(func.count()).select_from(Shelf)) == 2


async def test_a_version_that_is_stale_is_a_conflict(database):
    async with database.session() as db:
        row = (await db.scalars(select(Shelf))).one()
    async with database.session() as db:
        (await db.get_one(Shelf, row.id)).label = "theirs"
    row.label = "ours"
    with pytest.raises(StaleVersionException):
        async with database.session() as db:
            db.add(row)


async def test_program_error_is_not_translated(database):
    assert translate(ValueError(), Shelf.metadata) is None
    with pytest.raises((ProgrammingError, Exception), match="nowhere") as caught:
        async with database.session() as db:
            await db.execute(text("SELECT * FROM nowhere"))
    assert translate(caught.value, Shelf.metadata) is None


async def test_exceptions_and_logs_hold_no_parameters(database):
    with pytest.raises(IntegrityError) as caught:
        async with database.engine.begin() as connection:
            await connection.execute(insert(Shelf).values(id=uuid7(), room="hush", number=-1, tag="hush", version=1))
    assert "hidden due to hide_parameters" in str(caught.value)
