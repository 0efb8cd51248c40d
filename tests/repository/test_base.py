"""Columns and conventions of all tables."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from threading import Thread
from typing import Any, Literal
from uuid import UUID

import pytest
from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, literal, select, text, update
from sqlalchemy.exc import InvalidRequestError, StatementError
from sqlalchemy.orm import Mapped, mapped_column, relationship

from appkit.repository.base import (
    BaseTableModel,
    UTCDateTime,
    snake_case,
    utcnow,
    uuid7,
)
from appkit.repository.database import Database


class FolderState(Enum):
    OPEN = "open"
    SHUT = "shut"


class KeptFolder(BaseTableModel):
    name: Mapped[str] = mapped_column(unique=True)
    note: Mapped[str | None]
    state: Mapped[FolderState] = mapped_column(default=FolderState.OPEN)
    level: Mapped[Literal["low", "high"]] = mapped_column(default="low")
    tags: Mapped[list[str]] = mapped_column(default=list)
    touched_at: Mapped[datetime | None] = mapped_column(onupdate=text("CURRENT_TIMESTAMP"))
    pages: Mapped[list["KeptPage"]] = relationship(back_populates="folder")


class KeptPage(BaseTableModel):
    __table_args__ = (UniqueConstraint("folder_id", "url"), CheckConstraint("url <> ''", name="url_given"))

    url: Mapped[str]
    folder_id: Mapped[UUID] = mapped_column(ForeignKey("kept_folder.id"), index=True)
    folder: Mapped[KeptFolder] = relationship(back_populates="pages", lazy="selectin")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(KeptFolder.metadata.tables["kept_folder"].create)
        await connection.run_sync(KeptPage.metadata.tables["kept_page"].create)
    yield database
    await database.dispose()


def test_uuid7_sorts_by_age_in_all_threads():
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    made: list[list[UUID]] = [[], [], [], []]
    threads = [Thread(target=lambda ids=ids: ids.extend(uuid7() for _ in range(5000))) for ids in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [identifier for ids in made for identifier in ids]
    assert len(set(everything)) == 20_000
    assert all(ids == sorted(ids) for ids in made)
    assert {(identifier.version, identifier.variant) for identifier in everything} == {(7, "specified in RFC 4122")}
    times = [datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC) for identifier in everything]
    assert before <= min(times)
    assert max(times) <= datetime.now(UTC) + timedelta(milliseconds=1)


def test_uuid7_of_forked_processes_differ():
    script = """
import os
from appkit.repository.base import uuid7
uuid7()
for _ in range(4):
    if not os.fork():
        os.write(1, "".join(f"{uuid7()}\\n" for _ in range(100)).encode())
        os._exit(0)
for _ in range(4):
    os.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert len(set(done.stdout.split())) == 400


def test_uuid7_goes_on_when_the_clock_goes_back(monkeypatch):
    first = uuid7()
    monkeypatch.setattr("time.time_ns", lambda: 0)
    assert first < uuid7() < uuid7()


def test_names_follow_one_convention():
    assert [snake_case(name) for name in ("User", "BookmarkFolder", "HTTPServer", "Page2Url")] == [
        "user",
        "bookmark_folder",
        "http_server",
        "page2_url",
    ]
    table = KeptPage.metadata.tables["kept_page"]
    assert table.name == "kept_page"
    assert {str(constraint.name) for constraint in table.constraints} == {
        "pk_kept_page",
        "uq_kept_page_folder_id_url",
        "ck_kept_page_url_given",
        "fk_kept_page_folder_id_kept_folder",
    }
    assert [index.name for index in table.indexes] == ["ix_kept_page_folder_id"]
    assert [column.name for column in table.columns] == ["id", "url", "folder_id", "created_at", "updated_at"]


async def test_defaults_can_be_read_after_saving(database):
    async with database.session() as db:
        folder = KeptFolder(name="One")
        db.add(folder)
        await db.flush()
        assert folder.note is None
    assert folder.id.version == 7
    assert folder.created_at.tzinfo is UTC
    assert re.fullmatch(r"<KeptFolder [0-9a-f-]{36}>", repr(folder))


async def test_updated_at_follows_changes_and_needs_no_query(database):
    async with database.session() as db:
        folder = KeptFolder(name="One")
        db.add(folder)
    before = folder.updated_at
    async with database.session() as db:
        folder = await db.get_one(KeptFolder, folder.id)
        folder.note = "changed"
        await db.flush()
        assert folder.updated_at > before
        assert folder.touched_at is not None  # The database sets this column.


async def test_a_row_written_by_hand_gets_its_times(database):
    async with database.session() as db:
        row = "INSERT INTO kept_folder (id, name, state, level, tags) VALUES (:id, 'x', 'open', 'low', '[]')"
        await db.execute(text(row), {"id": uuid7().hex})
    async with database.read_session() as db:
        folder = (await db.scalars(select(KeptFolder))).one()
    assert abs(folder.created_at - utcnow()) < timedelta(seconds=5)


async def test_enums_are_texts_that_name_their_values(database):
    async with database.session() as db:
        db.add(KeptFolder(name="One", state=FolderState.SHUT, level="high", tags=["a"]))
        db.add(KeptFolder(name="Two"))
    async with database.session() as db:
        kept = await db.execute(text("SELECT state, level FROM kept_folder ORDER BY name"))
        assert [tuple(row) for row in kept] == [("shut", "high"), ("open", "low")]
        folder = (await db.scalars(select(KeptFolder).where(KeptFolder.state == FolderState.SHUT))).one()
        assert (folder.state, folder.level, folder.tags) == (FolderState.SHUT, "high", ["a"])
        for name, value in {"state": "ajar", "level": "middling"}.items():
            with pytest.raises(StatementError, match=value):
                await db.execute(update(KeptFolder).values({name: value}))
    state: Any = KeptFolder.metadata.tables["kept_folder"].c.state.type
    assert (state.native_enum, state.create_constraint, state.length) == (False, False, 64)


async def test_a_relationship_that_no_query_loaded_raises(database):
    async with database.session() as db:
        folder = KeptFolder(name="One")
        db.add(folder)
        db.add(KeptPage(url="x", folder=folder))
    async with database.read_session() as db:
        page = (await db.scalars(select(KeptPage))).one()
        assert page.folder.name == "One"  # The relationship has lazy="selectin".
        with pytest.raises(InvalidRequestError, match="raise_on_sql"):
            _ = page.folder.pages
        await db.refresh(page.folder, ["pages"])
        assert page.folder.pages == [page]


async def test_utc_datetime_takes_aware_moments_and_gives_them_in_utc(database):
    moment = datetime(2026, 5, 1, 12, 0, 0, 5, timezone(timedelta(hours=2)))
    async with database.session() as db:
        db.add(KeptFolder(name="One", created_at=moment))
    async with database.read_session() as db:
        found = (await db.scalars(select(KeptFolder).where(KeptFolder.created_at == moment))).one()
        assert found.created_at == moment
        assert found.created_at.utcoffset() == timedelta()
        with pytest.raises(StatementError, match="no time zone"):
            await db.scalars(select(KeptFolder).where(KeptFolder.created_at == datetime(2026, 5, 1)))  # noqa: DTZ001
        if not database.sqlite:
            later = KeptFolder.created_at + literal(timedelta(days=1))
            assert await db.scalar(select(later)) == moment + timedelta(days=1)
            assert await db.scalar(select(KeptFolder.created_at + timedelta(days=1))) == moment + timedelta(days=1)
        assert await db.scalar(select(literal(None, UTCDateTime))) is None


def test_a_check_that_migrations_would_lose_is_refused():
    """Runs in a subprocess, because the tables would remain in this process."""
    program = """
from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, configure_mappers, mapped_column
from appkit import BaseTableModel

class Priced(BaseTableModel):
    price: Mapped[int] = mapped_column(CheckConstraint("price > 0", name="positive"))

configure_mappers()
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "AppKitError: Priced.price has a column CHECK, which migrations would lose." in done.stderr
