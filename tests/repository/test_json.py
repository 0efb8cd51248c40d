"""JSON columns of pydantic types, on PostgreSQL and SQLite."""

from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, ValidationError
from sqlalchemy import func, insert, select
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from appkit.repository.base import BaseTableModel
from appkit.repository.column_types import JSONOf
from appkit.repository.database import Database
from appkit.repository.repository import Repository


class Stopover(BaseModel):
    city: str
    at: datetime


class Itinerary(BaseTableModel):
    first: Mapped[Stopover | None] = mapped_column(JSONOf(Stopover))
    stops: Mapped[list[Stopover]] = mapped_column(JSONOf(list[Stopover]))


def test_new_row_has_the_same_values_as_the_row_read_back():
    class Draft(BaseModel):
        stops: list[Stopover]

    draft = Draft(stops=[Stopover(city="Oslo", at=datetime(2026, 1, 2, tzinfo=UTC))])
    row = Repository[Itinerary](AsyncSession()).new(draft)
    assert row.stops == draft.stops
    row.first = {"city": "Oslo", "at": "2026-01-02T00:00:00Z"}  # type: ignore[assignment] # Pydantic converts the value.
    assert row.first == draft.stops[0]


async def test_json_column_validates_with_pydantic(database_url):
    database = Database(database_url)
    await database.create_all()
    stop = Stopover(city="Oslo", at=datetime(2026, 1, 2, tzinfo=UTC))
    async with database.session() as db:
        db.add(Itinerary(first=None, stops=[stop]))
        db.add(Itinerary(first=stop, stops=[]))
    async with database.session() as db:
        rows = (await db.scalars(select(Itinerary).order_by(Itinerary.id))).all()
        assert [(row.first, row.stops) for row in rows] == [(None, [stop]), (stop, [])]
        assert await db.scalar(select(func.count()).where(Itinerary.first.is_(None))) == 1
        with pytest.raises(ValidationError, match="Field required"):
            rows[0].stops = [{"city": "Oslo"}]  # type: ignore[list-item] # The wrong type is intended.
        with pytest.raises(StatementError, match="Field required"):
            await db.execute(insert(Itinerary).values(stops=[{"city": "Oslo"}]))
        await db.rollback()
    await database.dispose()
