"""Query classes: filters, sorting, errors and SQL."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, ClassVar
from uuid import UUID

import pytest
from fastapi import FastAPI, Query
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import ForeignKey, Index, not_, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, aliased, mapped_column, relationship

from appkit.api.errors import install_error_handlers
from appkit.exceptions import AppKitError
from appkit.repository.base import BaseTableModel
from appkit.repository.database import Database
from appkit.repository.filters import CursorQuery, ListQuery, PageQuery, Where, search_vector
from appkit.repository.repository import Repository


class Genre(Enum):
    NOVEL = "novel"
    VERSE = "verse"


class Poet(BaseTableModel):
    name: Mapped[str]


class Tome(BaseTableModel):
    title: Mapped[str]
    blurb: Mapped[str | None]
    genre: Mapped[Genre] = mapped_column(default=Genre.VERSE)
    pages: Mapped[int] = mapped_column(default=0)
    price: Mapped[Decimal | None]
    printed_at: Mapped[datetime | None]
    poet_id: Mapped[UUID | None] = mapped_column(ForeignKey("poet.id"))
    poet: Mapped[Poet | None] = relationship()


SEARCH = search_vector(Tome.title, Tome.blurb, language="english")
Index("ix_tome_search", SEARCH, postgresql_using="gin").ddl_if(dialect="postgresql")


class TomeFilters(BaseModel):
    title: Annotated[str | None, Where.contains(Tome.title)] = None
    genre: Annotated[list[Genre] | None, Where(Tome.genre.in_)] = None
    pages: Annotated[int | None, Field(ge=0), Where(lambda value: Tome.pages == value)] = None
    free: Annotated[bool | None, Where(lambda value: Tome.price.is_(None) if value else Tome.price.is_not(None))] = None
    poet: Annotated[str | None, Where(lambda name: Tome.poet.has(Poet.name == name))] = None
    since: Annotated[datetime, Where(lambda moment: Tome.printed_at >= moment)] | None = None
    q: Annotated[str | None, Where.search(Tome.title, Tome.blurb, language="english")] = None


class TomeQuery(PageQuery, TomeFilters):
    sortable: ClassVar = {"title": Tome.title, "pages": Tome.pages, "price": Tome.price}
    default_sort = "-pages,title"


class TomeCursor(CursorQuery, TomeFilters):
    sortable: ClassVar = {"title": Tome.title}


TOMES = [
    {"title": "100%", "genre": Genre.NOVEL, "pages": 3},
    {"title": "snake_case", "pages": 2, "price": Decimal(4)},
    {"title": "Walking dogs", "blurb": "The dog walks.", "printed_at": datetime(2026, 1, 1, tzinfo=UTC)},
    {"title": "Cats", "blurb": "No walk at all.", "pages": 2},
]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    tables = [Tome.metadata.tables[name] for name in ("poet", "tome")]
    async with database.engine.begin() as connection:
        await connection.run_sync(lambda sync: Tome.metadata.create_all(sync, tables=tables))
    yield database
    await database.dispose()


@pytest.fixture
async def db(database: Database) -> AsyncIterator[AsyncSession]:
    async with database.session() as session:
        await Repository[Tome](session).create_many(TOMES)
        yield session


async def titles(db: AsyncSession, **given: object) -> list[str]:
    page = await Repository[Tome](db).page(TomeQuery.model_validate(given))
    return [tome.title for tome in page.items]


# Filters


FINDS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"100%", "snake_case", "Walking dogs", "Cats"}),
    ({"title": "WALK"}, {"Walking dogs"}),
    ({"title": "%"}, {"100%"}),
    ({"title": "_"}, {"snake_case"}),
    ({"title": "/"}, set()),
    ({"genre": ["novel"]}, {"100%"}),
    ({"genre": ["novel", "verse"], "pages": 2}, {"snake_case", "Cats"}),
    ({"genre": []}, set()),
    ({"genre": ["verse"] * 10_000, "pages": 0}, {"Walking dogs"}),
    ({"pages": 0}, {"Walking dogs"}),
    ({"free": False}, {"snake_case"}),
    ({"free": True, "pages": 3}, {"100%"}),
    ({"poet": "Sappho"}, set()),
    ({"since": "2025-06-01T00:00:00+02:00"}, {"Walking dogs"}),
    ({"since": "2026-06-01T00:00:00Z"}, set()),
]


async def test_filters_find(db):
    assert [set(await titles(db, **given)) for given, _ in FINDS] == [found for _, found in FINDS]


async def test_a_filter_may_ask_a_relationship(db):
    poet = await Repository[Poet](db).create({"name": "Sappho"})
    await Repository[Tome](db).update_where(Tome.title == "Cats", values={"poet_id": poet.id})
    assert await titles(db, poet="Sappho") == ["Cats"]


async def test_order_is_the_requested_one_or_the_default(db):
    assert await titles(db) == ["100%", "Cats", "snake_case", "Walking dogs"]
    assert await titles(db, sort="pages,-title") == ["Walking dogs", "snake_case", "Cats", "100%"]


# Full-text search


SEARCHES = [  # the words, the results on PostgreSQL, the results on SQLite
    ("dog", {"Walking dogs"}, {"Walking dogs"}),
    ("walk dog", {"Walking dogs"}, {"Walking dogs"}),
    ("CATS no", {"Cats"}, {"Cats"}),
    ("walk", {"Walking dogs", "Cats"}, {"Walking dogs", "Cats"}),
    ("walked", {"Walking dogs", "Cats"}, set()),
    ("walk -dog", {"Cats"}, set()),
    ('"dog walks"', {"Walking dogs"}, {"Walking dogs"}),
    ("cat or dog", {"Cats", "Walking dogs"}, set()),
    ("  ", {"100%", "snake_case", "Walking dogs", "Cats"}, {"100%", "snake_case", "Walking dogs", "Cats"}),
    ("%", set(), {"100%"}),
    ("it's & | ! :*", set(), set()),
]


async def test_search_finds(database, db):
    found = {words: set(await titles(db, q=words)) for words, *_ in SEARCHES}
    assert found == {words: elsewhere if database.sqlite else there for words, there, elsewhere in SEARCHES}


async def test_filters_take_all_the_text_that_they_accept(db):
    assert await titles(db, q="cats " * 2_000) == ["Cats"]
    assert await titles(db, q=" ".join(map(str, range(2_000)))) == []
    assert await titles(db, title="%" * 10_000) == []


async def test_search_is_a_condition_like_others(db):
    found = Where.search(Tome.title).clause("cats")
    assert set(await db.scalars(select(Tome.title).where(not_(found)))) == {"100%", "snake_case", "Walking dogs"}
    assert set(await db.scalars(select(Tome.title).where(found | (Tome.pages == 3)))) == {"100%", "Cats"}
    other = aliased(Tome)
    again = Where.search(other.title).clause("cats")
    assert (await db.scalars(select(other.title).join(Tome, Tome.id == other.id).where(found, again))).all() == ["Cats"]


async def test_search_uses_the_index(database, db):
    if database.sqlite:
        pytest.skip("SQLite has no such index.")
    await db.execute(text("SET LOCAL enable_seqscan = off"))
    (condition,) = TomeQuery(q="dogs").where()
    sql = str(select(Tome.id).where(condition).compile(db.get_bind(), compile_kwargs={"literal_binds": True}))
    plan = "\n".join(await db.scalars(text("EXPLAIN " + sql.replace(":", "\\:"))))
    assert "ix_tome_search" in plan


# Errors in a class


def test_default_sort_must_be_sortable():
    with pytest.raises(AppKitError, match="Broken.default_sort names 'age'"):

        class Broken(PageQuery):
            sortable: ClassVar = {"title": Tome.title}
            default_sort = "title,-age"


def test_cursor_query_refuses_a_column_that_may_be_null():
    with pytest.raises(AppKitError, match="Broken can't sort by 'price': the column may be NULL"):

        class Broken(CursorQuery):
            sortable: ClassVar = {"title": Tome.title, "price": Tome.price}


def test_list_query_is_the_base_of_page_query_and_cursor_query():
    assert issubclass(PageQuery, ListQuery)
    assert issubclass(CursorQuery, ListQuery)
    assert PageQuery().where() == PageQuery().order() == []


# Requests and OpenAPI


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/tomes")
    async def list_tomes(query: Annotated[TomeQuery, Query()]) -> int:
        return len(query.where())

    @app.get("/feed")
    async def feed(query: Annotated[TomeCursor, Query()]) -> int:
        return query.size

    @app.get("/plain")
    async def plain(query: Annotated[PageQuery, Query()]) -> int:
        return query.page

    return TestClient(app)


SORT = "Sort by title, pages, price. Put - before a name to sort in descending order."


@pytest.mark.parametrize(
    ("url", "field", "message"),
    [
        ("/tomes?colour=red", "colour", "This is not expected here."),
        ("/tomes?page=0", "page", "This must be at least 1."),
        ("/tomes?page=10001", "page", "This must be at most 10000."),
        ("/tomes?size=201", "size", "This must be at most 200."),
        ("/tomes?size=many", "size", "This must be a whole number."),
        ("/tomes?genre=opera", "genre.0", "Choose one of 'novel' or 'verse'."),
        ("/tomes?genre=", "genre.0", "Choose one of 'novel' or 'verse'."),
        ("/tomes?since=2026-01-01T00:00:00", "since", "This must say its time zone."),
        ("/tomes?sort=poet.hashed_password", "sort", SORT),
        ("/tomes?sort=--title", "sort", SORT),
        ("/tomes?sort=title,,pages", "sort", SORT),
        ("/tomes?sort=title,-title", "sort", "Use each name only once."),
        (f"/tomes?title={'x' * 10_001}", "title", "Use at most 10000 characters."),
        ("/plain?sort=title", "sort", "This can't be sorted."),
        ("/feed?page=2", "page", "This is not expected here."),
    ],
)
def test_wrong_parameters_are_explained(client, url, field, message):
    answer = client.get(url)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["field"], error["message"]) == (field, message)
    assert "hashed_password" not in answer.text.replace(url, "")


def test_parameters_arrive(client):
    assert client.get("/tomes?title=x&genre=novel&genre=verse&pages=0&free=false").json() == 4
    assert client.get("/tomes?size=1&size=7&page=2").json() == 0
    assert client.get("/feed?size=3&cursor=x").json() == 3


def test_openapi_names_every_parameter(client):
    paths = client.get("/openapi.json").json()["paths"]
    described = {each["name"]: each for each in paths["/tomes"]["get"]["parameters"]}
    assert set(described) == {"page", "size", "sort", "title", "genre", "pages", "free", "poet", "since", "q"}
    assert described["sort"]["description"] == (
        "Sort by `title` or `pages` or `price`, separated by commas. `-` before a name: descending. "
        "Default: `-pages,title`."
    )
    assert described["size"]["schema"]["maximum"] == 200
    assert not any(each["required"] for each in described.values())
    assert {each["name"] for each in paths["/feed"]["get"]["parameters"]} >= {"cursor", "size", "sort"}


def test_a_class_may_be_used_in_python():
    query = TomeQuery(page=2, sort="title")
    assert (query.page, query.size) == (2, 20)
    with pytest.raises(ValidationError):
        TomeQuery(sort="age")
