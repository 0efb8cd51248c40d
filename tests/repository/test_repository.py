"""Repository: the rows of one model, with all three drivers."""

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar, Generic, TypeVar
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel
from sqlalchemy import ForeignKey, Select, UniqueConstraint, event, select, true
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column, relationship, selectinload

from appkit.exceptions import AppKitError, ConstraintViolatedException, NotFoundException
from appkit.repository.base import Base, BaseTableModel, utcnow
from appkit.repository.database import Database
from appkit.repository.filters import CursorQuery, PageQuery
from appkit.repository.repository import Repository


class Planet(BaseTableModel):
    name: Mapped[str] = mapped_column(unique=True)
    mass: Mapped[int] = mapped_column("earth_masses", default=1)
    note: Mapped[str | None]
    moons: Mapped[list["Moon"]] = relationship(back_populates="planet", cascade="all, delete-orphan")


class Moon(BaseTableModel):
    __table_args__ = (UniqueConstraint("planet_id", "number"),)

    planet_id: Mapped[UUID] = mapped_column(ForeignKey("planet.id"))
    number: Mapped[int]
    planet: Mapped[Planet] = relationship(back_populates="moons")


class Landing(Base):
    __tablename__ = "landing"

    moon: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)


class PlanetCreate(BaseModel):
    name: str
    mass: int = 5
    note: str | None = None


class PlanetUpdate(BaseModel):
    name: str = ""
    note: str | None = None


class Giants(Repository[Planet]):
    def select(self) -> Select[Planet]:
        return super().select().where(Planet.mass > 10)


class PlanetPage(PageQuery):
    sortable: ClassVar = {"name": Planet.name, "mass": Planet.mass, "note": Planet.note}


class CappedPage(PlanetPage):
    count = "capped"


class UncountedPage(PlanetPage):
    count = "none"


class PlanetCursor(CursorQuery):
    sortable: ClassVar = {"name": Planet.name, "mass": Planet.mass}
    default_sort = "-mass"


TABLES = [Planet.metadata.tables[name] for name in ("planet", "moon", "landing")]


@pytest.fixture(params=["default", "psycopg"])
async def database(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Database]:
    if request.param == "psycopg":
        if database_url.startswith("sqlite"):
            pytest.skip("psycopg is a driver for PostgreSQL.")
        database_url = database_url.replace("asyncpg", "psycopg")
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(lambda sync: Planet.metadata.create_all(sync, tables=TABLES))
    yield database
    await database.dispose()


@pytest.fixture
async def db(database: Database) -> AsyncIterator[AsyncSession]:
    async with database.session() as session:
        yield session


@pytest.fixture
async def planets(db: AsyncSession) -> Repository[Planet]:
    """Nine planets, named a to i. Each planet has a higher mass than the one before."""
    planets = Repository[Planet](db)
    await planets.create_many({"name": name, "mass": 3 * n} for n, name in enumerate("abcdefghi"))
    return planets


def names(rows) -> str:
    return "".join(row.name for row in rows)


@pytest.fixture
def statements(database: Database):
    said: list[str] = []

    @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
    def listen(_connection, _cursor, statement, *_):
        said.append(statement)

    return said


# The model


def test_repository_takes_its_model_from_the_type_argument():
    session = AsyncSession()
    RowT = TypeVar("RowT")

    class Scoped(Repository[RowT], Generic[RowT]):
        pass

    class Planets(Scoped[Planet]):
        pass

    for repository in (Repository[Planet](session), Repository(session, Planet), Giants(session), Planets(session)):
        assert repository.model is Planet
    assert Scoped[Planet](session).model is Planet


def test_repository_without_a_model_says_so():
    with pytest.raises(AppKitError, match=r"Repository doesn't say which model .* Repository\[Post\]"):
        _ = Repository(AsyncSession()).model


# Reading


async def test_get_finds_a_row_or_answers_404(planets):
    planet = await planets.one(Planet.name == "c")
    assert await planets.get(planet.id) is planet
    assert await planets.get_or_none(uuid4()) is None
    with pytest.raises(NotFoundException):
        await planets.get(uuid4())


async def test_get_takes_a_key_of_several_columns(db):
    landings = Repository[Landing](db)
    await landings.create({"moon": "Luna", "day": 1})
    assert (await landings.get(("Luna", 1))).day == 1
    assert (await landings.get(("Luna", 1), for_update=True)).day == 1
    assert await landings.count() == 1
    assert await landings.get_or_create({"moon": "Luna", "day": 1}, on=[Landing.moon, Landing.day]) == (
        await landings.one(),
        False,
    )


async def test_get_loads_given_relationships(planets, db):
    planet = await planets.one(Planet.name == "c")
    await Repository[Moon](db).create({"number": 1, "planet_id": planet.id})
    loaded = await planets.get(planet.id, options=[selectinload(Planet.moons)])
    assert [moon.number for moon in loaded.moons] == [1]


async def test_get_for_update_reads_the_row_again(database, planets, db):
    held = await planets.one(Planet.name == "c")
    await db.commit()
    async with database.session() as other:
        await Repository[Planet](other).update_where(Planet.name == "c", values={"note": "changed"})
    assert (await planets.get(held.id)).note is None
    assert (await planets.get(held.id, for_update=True)).note == "changed"


async def test_one_refuses_no_row_and_several_rows(planets):
    assert (await planets.one(Planet.mass == 0)).name == "a"
    with pytest.raises(NotFoundException):
        await planets.one(Planet.mass == 1)
    with pytest.raises(MultipleResultsFound):
        await planets.one(Planet.mass > 1)


async def test_list_and_first_sort_by_order_or_primary_key(planets):
    assert names(await planets.list()) == "abcdefghi"
    assert names(await planets.list(Planet.mass > 9, order=[Planet.name.desc()], limit=3)) == "ihg"
    first = await planets.first(Planet.mass > 9, order=[Planet.mass])
    assert first is not None
    assert first.name == "e"
    assert await planets.first(Planet.mass > 99) is None


async def test_count_and_exists_need_one_statement_each(planets, statements):
    assert await planets.count() == 9
    assert await planets.count(Planet.mass > 9) == 5
    assert await planets.exists(Planet.mass == 9)
    assert not await planets.exists(Planet.mass == 10)
    assert len(statements) == 4


async def test_stream_gives_every_row_once_across_transactions(planets, db):
    seen = []
    async for planet in planets.stream(Planet.mass > 0, batch=3):
        seen.append(planet.name)
        await planets.delete(planet)
        await db.commit()
    assert "".join(seen) == "bcdefghi"
    assert await planets.count() == 1


async def test_select_narrows_everything(planets, db):
    giants = Giants(db)
    light, heavy = await planets.one(Planet.name == "b"), await planets.one(Planet.name == "f")
    assert await giants.get(heavy.id) is heavy
    assert await giants.get(heavy.id, for_update=True) is heavy
    assert await giants.get_or_none(light.id) is None
    assert names(await giants.list()) == "efghi"
    assert await giants.count() == 5
    assert not await giants.exists(Planet.name == "b")
    assert names([row async for row in giants.stream(batch=2)]) == "efghi"
    assert names((await giants.page(PageQuery())).items) == "efghi"
    assert names((await giants.page(PlanetCursor())).items) == "ihgfe"
    assert await giants.update_where(true(), values={"note": "giant"}) == 5
    assert (light.note, heavy.note) == (None, "giant")
    assert await giants.delete_where(Planet.mass < 20) == 3
    assert names(await planets.list()) == "abcdhi"


async def test_select_may_join(planets, db):
    class WithMoons(Repository[Planet]):
        def select(self) -> Select[Planet]:
            return super().select().join(Planet.moons).where(Moon.number == 1)

    planet = await planets.one(Planet.name == "c")
    await Repository[Moon](db).create_many([{"number": n, "planet_id": planet.id} for n in (1, 2)])
    moony = WithMoons(db)
    assert names(await moony.list(order=[Moon.number])) == "c"
    assert await moony.count() == 1
    assert (await moony.page(PageQuery())).total == 1
    assert await moony.update_where(true(), values={"note": "moony"}) == 1
    assert await planets.count(Planet.note.is_not(None)) == 1


# Pages


async def walk(planets: Repository[Planet], query: type[CursorQuery], sort: str | None = None) -> str:
    seen, cursor = "", None
    while True:
        page = await planets.page(query(cursor=cursor, size=2, sort=sort))
        seen += names(page.items)
        if (cursor := page.next_cursor) is None:
            return seen


async def test_cursor_pages_follow_the_query(planets):
    assert await walk(planets, PlanetCursor) == "ihgfedcba"
    assert await walk(planets, PlanetCursor, sort="name") == "abcdefghi"
    assert await walk(planets, PlanetCursor, sort="-name,mass") == "ihgfedcba"


@pytest.mark.parametrize("query", [PlanetPage, CappedPage, UncountedPage])
async def test_pages_have_a_number_and_has_next(planets, query):
    pages = [await planets.page(query(page=n, size=4, sort="-mass")) for n in (1, 2, 3)]
    assert [names(page.items) for page in pages] == ["ihgf", "edcb", "a"]
    assert [page.has_next for page in pages] == [True, True, False]
    counted = query is not UncountedPage
    assert [page.total for page in pages] == ([9, 9, 9] if counted else [None, None, 9])
    assert [page.pages for page in pages] == ([3, 3, 3] if counted else [None, None, 3])


async def test_last_page_needs_no_count(planets, statements):
    assert (await planets.page(PageQuery(size=9))).total == 9
    assert (await planets.page(PageQuery(page=2, size=8))).total == 9
    assert len(statements) == 2
    assert (await planets.page(PageQuery(size=8))).total == 9
    assert (await planets.page(PageQuery(page=5, size=8))).total == 9
    assert len(statements) == 6


async def test_empty_page_is_a_page(db):
    page = await Repository[Planet](db).page(PageQuery())
    assert (page.items, page.total, page.pages, page.has_next) == ([], 0, 0, False)


async def test_a_capped_count_stops_at_its_cap(planets, monkeypatch):
    monkeypatch.setattr("appkit.repository.pagination.CAP", 6)
    page = await planets.page(CappedPage(size=2))
    assert (page.total, page.pages, page.has_next) == (None, None, True)
    assert (await planets.page(CappedPage(size=2), Planet.mass > 6)).total == 6


async def test_pages_sort_by_nullable_columns(planets):
    await planets.update_where(Planet.mass > 9, values={"note": "x"})
    seen = [names((await planets.page(PlanetPage(page=n, size=4, sort="note"))).items) for n in (1, 2, 3)]
    assert sorted("".join(seen)) == list("abcdefghi")


# Writing


async def test_create_takes_a_schema_with_its_defaults_and_more(db):
    planets = Repository[Planet](db)
    planet = await planets.create(PlanetCreate(name="x"), note="far")
    assert (planet.name, planet.mass, planet.note) == ("x", 5, "far")
    assert planet.created_at is not None
    assert (await planets.create({"name": "y"})).mass == 1


async def test_create_many_takes_schemas_mappings_and_rows(db):
    planets = Repository[Planet](db)
    made = await planets.create_many([PlanetCreate(name="x"), {"name": "y"}, Planet(name="z")])
    assert names(made) == names(await planets.list()) == "xyz"
    assert await planets.create_many([]) == []


async def test_update_changes_only_set_fields(planets):
    planet = await planets.one(Planet.name == "c")
    planet.note = "kept"
    await planets.update(planet, PlanetUpdate(name="see"))
    assert (planet.name, planet.note) == ("see", "kept")
    await planets.update(planet, PlanetUpdate(note=None), mass=7)
    assert (planet.name, planet.note, planet.mass) == ("see", None, 7)
    assert await planets.count(Planet.name == "see", Planet.note.is_(None), Planet.mass == 7) == 1


async def test_update_takes_a_row_of_another_session(database, planets, db):
    planet = await planets.one(Planet.name == "c")
    await db.commit()
    async with database.session() as other:
        await Repository[Planet](other).update(await other.merge(planet, load=False), {"note": "moved"})
    await db.refresh(planet)
    assert planet.note == "moved"


async def test_unknown_names_are_refused(planets):
    planet = await planets.one(Planet.name == "c")
    with pytest.raises(AppKitError, match="Planet has no colour, size"):
        await planets.create({"name": "x", "colour": 1}, size=1)
    with pytest.raises(AppKitError, match="Planet has no metadata"):
        await planets.update(planet, {"metadata": 1})
    with pytest.raises(AppKitError, match="Planet has no colour"):
        await planets.update_where(true(), values={"colour": 1})
    with pytest.raises(AppKitError, match="Planet has no earth_masses"):
        await planets.upsert([{"name": "x", "earth_masses": 1}], on=[Planet.name])
    assert not hasattr(planet, "colour")


async def test_nothing_is_committed(database):
    async with database.session() as db:
        await Repository[Planet](db).create({"name": "x"})
        await db.rollback()
    async with database.session() as db:
        assert not await Repository[Planet](db).exists()


async def test_delete_cascades_as_the_model_says(planets, db):
    planet = await planets.get((await planets.one(Planet.name == "c")).id, options=[selectinload(Planet.moons)])
    await Repository[Moon](db).create({"number": 1, "planet": planet})
    await planets.delete(planet)
    assert await Repository[Moon](db).count() == 0
    assert not await planets.exists(Planet.name == "c")
    with pytest.raises(AppKitError, match="Planet is not a SoftDelete model"):
        await planets.restore(planet)


async def test_bulk_changes_return_a_count_and_update_loaded_rows(planets):
    planet = await planets.one(Planet.name == "i")
    before = planet.updated_at
    assert await planets.update_where(Planet.mass > 9, values={"mass": 100}) == 5
    assert planet.mass == 100
    assert await planets.count(Planet.updated_at > before) == 5
    assert await planets.delete_where(Planet.mass == 100) == 5
    assert await planets.get_or_none(planet.id) is None


async def test_bulk_changes_refuse_an_empty_where(planets):
    with pytest.raises(AppKitError, match="No condition was given"):
        await planets.update_where(values={"mass": 0})
    with pytest.raises(AppKitError, match="No condition was given"):
        await planets.delete_where()
    assert await planets.delete_where(true()) == 9


# Writing without reading first


async def test_upsert_inserts_new_rows_and_updates_existing_rows(planets):
    held = await planets.one(Planet.name == "c")
    created, updated, identifier = held.created_at, held.updated_at, held.id
    rows = await planets.upsert(
        [{"name": "c", "mass": 50, "note": "known"}, {"name": "new", "mass": 51, "note": "unknown"}], on=[Planet.name]
    )
    assert {(row.name, row.mass, row.note) for row in rows} == {("c", 50, "known"), ("new", 51, "unknown")}
    assert held in rows
    assert (held.mass, held.id, held.created_at) == (50, identifier, created)
    assert held.updated_at > updated
    assert await planets.count() == 10


async def test_upsert_takes_schemas_and_the_last_of_two_with_one_key(planets):
    (row,) = await planets.upsert([PlanetCreate(name="c", mass=1), PlanetCreate(name="c", mass=2)], on=[Planet.name])
    assert row.mass == 2
    assert await planets.upsert([], on=[Planet.name]) == []


async def test_upsert_takes_any_unique_columns(planets, db):
    planet = await planets.one(Planet.name == "c")
    (again,) = await planets.upsert([{"id": planet.id, "name": "see"}], on=[Planet.id])
    assert again is planet
    assert planet.name == "see"
    moons = Repository[Moon](db)
    for _ in range(2):
        await moons.upsert([{"planet_id": planet.id, "number": 1}], on=[Moon.number, Moon.planet_id])
    assert await moons.count() == 1
    with pytest.raises(AppKitError, match="planet has no unique constraint or index on exactly these: mass"):
        await planets.upsert([{"mass": 1, "name": "x"}], on=[Planet.mass])


async def test_upsert_of_only_a_key_inserts_a_missing_row(db):
    landings = Repository[Landing](db)
    for _ in range(2):
        (landing,) = await landings.upsert([{"moon": "Luna", "day": 1}], on=[Landing.moon, Landing.day])
        assert (landing.moon, landing.day) == ("Luna", 1)
    assert await landings.count() == 1


async def test_upsert_refuses_rows_of_different_shapes(planets):
    with pytest.raises(AppKitError, match="same columns"):
        await planets.upsert([{"name": "x"}, {"name": "y", "mass": 1}], on=[Planet.name])


async def test_upsert_takes_more_rows_than_one_statement_allows(db):
    planets = Repository[Planet](db)
    for mass in (1, 2):
        rows = await planets.upsert([{"name": str(n), "mass": mass} for n in range(5000)], on=[Planet.name])
        assert {row.mass for row in rows} == {mass}
    assert await planets.count(Planet.mass == 2) == 5000


async def test_upsert_still_refuses_other_conflicts(database):
    async with database.session() as db:
        await Repository[Planet](db).create({"name": "x"})
    with pytest.raises(ConstraintViolatedException) as caught:
        async with database.session() as db:
            await Repository[Planet](db).upsert([{"id": uuid4(), "name": "x"}], on=[Planet.id])
    assert [error["field"] for error in caught.value.extra["errors"]] == ["name"]


async def test_get_or_create_makes_one_row_under_concurrency(database):
    one_writer = database.engine.dialect.name == "sqlite"
    connected = asyncio.Barrier(1 if one_writer else 10)

    async def attempt(n: int) -> tuple[UUID, bool]:
        async with database.session() as db:
            await db.connection()
            await connected.wait()
            planet, created = await Repository[Planet](db).get_or_create({"name": "x", "mass": n}, on=[Planet.name])
            return planet.id, created

    results = await asyncio.gather(*map(attempt, range(10)))
    assert len({identifier for identifier, _ in results}) == 1
    assert sum(created for _, created in results) == 1
    async with database.session() as db:
        assert await Repository[Planet](db).count() == 1


async def test_upsert_leaves_one_row_under_concurrency(database):
    async def attempt(n: int) -> None:
        async with database.session() as db:
            await Repository[Planet](db).upsert([{"name": "x", "mass": n}], on=[Planet.name])

    await asyncio.gather(*map(attempt, range(10)))
    async with database.session() as db:
        assert (await Repository[Planet](db).one()).mass in range(10)


async def test_get_or_create_refuses_the_key_of_a_hidden_row(planets, db):
    with pytest.raises(ConstraintViolatedException, match="taken already") as caught:
        await Giants(db).get_or_create({"name": "b", "mass": 99}, on=[Planet.name])
    assert caught.value.extra["errors"] == [{"field": "name", "message": "This is taken already.", "type": "unique"}]


async def test_repository_works_with_a_plain_session(database):
    """A repository needs no `Database`."""
    async with AsyncSession(database.engine, expire_on_commit=False) as db:
        assert (await Repository[Planet](db).create({"name": "x", "created_at": utcnow()})).name == "x"
        assert (await db.scalars(select(Planet.name))).all() == ["x"]
