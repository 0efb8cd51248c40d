"""Pages by keyset, on PostgreSQL and SQLite."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum

import pytest
from pydantic import BaseModel
from sqlalchemy import Numeric, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from appkit.exceptions import AppKitError, UnprocessableException
from appkit.repository.base import BaseTableModel
from appkit.repository.database import Database
from appkit.repository.pagination import CursorPage, KeysetPage, keyset_page


class Mood(Enum):
    CALM = "calm"
    WILD = "wild"


class Entry(BaseTableModel):
    title: Mapped[str]
    score: Mapped[int]
    mood: Mapped[Mood]
    starred: Mapped[bool]
    price: Mapped[Decimal] = mapped_column(Numeric(18, 6, asdecimal=True), default=Decimal("0.1"))
    published_at: Mapped[datetime | None]


NEWEST = Entry.created_at.desc()
COUNT = 23
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(Entry.metadata.tables["entry"].create)
    async with database.session() as db:
        for n in range(COUNT):  # Many equal values, and values that are false in Python.
            db.add(
                Entry(
                    title=["", "ä", "%_", "b"][n % 4],
                    score=n % 3,
                    mood=list(Mood)[n % 2],
                    starred=n % 2 == 0,
                    created_at=START + timedelta(microseconds=n // 5),
                    published_at=START if n % 2 else None,
                )
            )
    yield database
    await database.dispose()


async def walk(database: Database, query, order, size: int = 4) -> list[Entry]:
    entries: list[Entry] = []
    cursor: str | None = None
    while True:
        async with database.read_session() as db:
            page = await keyset_page(db, query, order=order, cursor=cursor, size=size)
        assert len(page.items) == size or page.next_cursor is None
        entries += page.items
        if (cursor := page.next_cursor) is None:
            return entries


@pytest.mark.parametrize(
    "order",
    [
        [NEWEST],
        [Entry.created_at],
        [Entry.score.desc(), Entry.title.desc()],
        [Entry.score.desc(), Entry.title.asc(), Entry.created_at.desc()],
        [Entry.mood, Entry.score.desc()],
        [Entry.starred, Entry.score],
        [Entry.id.desc()],
        [],
    ],
    ids=lambda order: ",".join(map(str, order)) or "nothing",
)
async def test_keyset_page_gives_each_row_once_and_in_order(database, order):
    entries = await walk(database, select(Entry), order)
    async with database.read_session() as db:
        last = Entry.id.desc() if order and "DESC" in str(order[-1]) else Entry.id
        everything = (await db.scalars(select(Entry).order_by(*order, last))).all()
    assert [entry.id for entry in entries] == [entry.id for entry in everything]
    assert len(entries) == COUNT


async def test_keyset_page_keeps_the_filter_and_the_exact_last_page(database):
    entries = await walk(database, select(Entry).where(Entry.score == 0), [NEWEST], size=4)
    assert len(entries) == 8


async def test_keyset_page_loses_no_row_while_others_are_added_and_deleted(database):
    async with database.session() as db:
        first = await keyset_page(db, select(Entry), order=[NEWEST], size=4)
        await db.delete(first.items[-1])
        db.add(Entry(title="new", score=0, mood=Mood.CALM, starred=False))
    seen = {entry.id for entry in first.items}
    cursor = first.next_cursor
    while cursor:
        async with database.read_session() as db:
            page = await keyset_page(db, select(Entry), order=[NEWEST], cursor=cursor, size=4)
        seen |= {entry.id for entry in page.items}
        cursor = page.next_cursor
    assert len(seen) == COUNT


async def test_keyset_page_after_rows_that_are_gone_is_empty(database):
    async with database.session() as db:
        first = await keyset_page(db, select(Entry), order=[Entry.id], size=4)
        await db.execute(delete(Entry).where(Entry.id > first.items[-1].id))
        last = await keyset_page(db, select(Entry), order=[Entry.id], cursor=first.next_cursor, size=4)
    assert (last.items, last.next_cursor) == ([], None)


async def test_keyset_page_refuses_an_order_that_would_lose_rows(database):
    async with database.read_session() as db:
        with pytest.raises(AppKitError, match=r"published_at may be NULL"):
            await keyset_page(db, select(Entry), order=[Entry.published_at.desc()])
    published = select(Entry).where(Entry.published_at.is_not(None), Entry.score >= 0)
    assert len(await walk(database, published, [Entry.published_at.desc()])) == COUNT // 2


async def test_keyset_page_refuses_a_cursor_that_is_damaged_or_of_another_order(database):
    async with database.read_session() as db:
        cursor = (await keyset_page(db, select(Entry), order=[NEWEST], size=2)).next_cursor
        assert cursor
        checksum, *values = json.loads(base64.urlsafe_b64decode(cursor + "=="))
        edited = base64.urlsafe_b64encode(json.dumps([checksum, values[0], "x"]).encode()).decode()
        flipped = [cursor[:i] + ("A" if cursor[i] != "A" else "B") + cursor[i + 1 :] for i in range(len(cursor))]
        for bad in ["", "x", "é", "[]", cursor[:-1], cursor + "A", cursor * 50, edited, "W" * 9000, *flipped]:
            with pytest.raises(UnprocessableException):
                await keyset_page(db, select(Entry), order=[NEWEST], cursor=bad)
        for order in ([Entry.created_at], [Entry.score], [Entry.updated_at.desc()], [NEWEST, Entry.score]):
            with pytest.raises(UnprocessableException):
                await keyset_page(db, select(Entry), order=order, cursor=cursor)


async def test_keyset_page_takes_decimals(database_url):
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite has no decimals.")
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(Entry.metadata.tables["entry"].create)
    async with database.session() as db:
        for n in range(5):
            db.add(Entry(title="", score=0, mood=Mood.CALM, starred=False, price=Decimal(n) / 7))
    prices = [entry.price for entry in await walk(database, select(Entry), [Entry.price.desc()], size=2)]
    assert prices == sorted(prices, reverse=True)
    assert len(prices) == 5
    await database.dispose()


def test_cursor_page_is_the_schema_of_a_keyset_page():
    class EntrySchema(BaseModel, from_attributes=True):
        title: str

    page = KeysetPage([Entry(title="One")], "next")
    assert CursorPage[EntrySchema].model_validate(page).model_dump() == {
        "items": [{"title": "One"}],
        "next_cursor": "next",
    }
