"""Mixins: soft deletion, versions, authors and integer ids."""

import subprocess
import sys
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel
from sqlalchemy import ForeignKey, delete, event, exists, func, literal, or_, select, text, true, union_all, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    Mapped,
    aliased,
    column_property,
    declared_attr,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)

from appkit.core.context import user_id
from appkit.exceptions import AppKitError, ConstraintViolatedException, StaleVersionException
from appkit.repository.base import BaseTableModel, IntBaseTableModel, utcnow
from appkit.repository.database import Database
from appkit.repository.mixins import Authored, SoftDelete, Versioned
from appkit.repository.repository import Repository


class Bed(BaseTableModel):
    name: Mapped[str]
    plants: Mapped[list["Plant"]] = relationship(back_populates="bed")


class Plant(SoftDelete, BaseTableModel):
    __table_args__ = (SoftDelete.unique("name"),)

    name: Mapped[str]
    latin: Mapped[str | None] = mapped_column(unique=True)
    bed_id: Mapped[UUID | None] = mapped_column(ForeignKey("bed.id"))
    bed: Mapped[Bed | None] = relationship(back_populates="plants")


Bed.size = column_property(
    select(func.count(Plant.id)).where(Plant.bed_id == Bed.id).correlate_except(Plant).scalar_subquery()
)


class Label(BaseTableModel):
    plant_id: Mapped[UUID] = mapped_column(ForeignKey("plant.id"))
    plant: Mapped[Plant | None] = relationship()


class Recipe(Versioned, SoftDelete, Authored, IntBaseTableModel):
    title: Mapped[str] = mapped_column(unique=True)
    body: Mapped[str] = mapped_column(default="")


class RecipeUpdate(BaseModel):
    title: str = ""
    version: int | None = None


class Trunk(SoftDelete, BaseTableModel):
    twigs: Mapped[list["Twig"]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class Twig(SoftDelete, BaseTableModel):
    trunk_id: Mapped[UUID] = mapped_column(ForeignKey("trunk.id", ondelete="CASCADE"))


TABLES = [Bed.metadata.tables[name] for name in ("bed", "plant", "label", "recipe", "trunk", "twig")]
DELETED = {"include_deleted": True}


@pytest.fixture(params=["default", "psycopg"])
async def database(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Database]:
    if request.param == "psycopg":
        if database_url.startswith("sqlite"):
            pytest.skip("psycopg is a driver for PostgreSQL.")
        database_url = database_url.replace("asyncpg", "psycopg")
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(lambda sync: Bed.metadata.create_all(sync, tables=TABLES))
    yield database
    await database.dispose()


@pytest.fixture
async def db(database: Database) -> AsyncIterator[AsyncSession]:
    """A session with two beds: one has a live and a deleted plant, the other has only a deleted plant."""
    async with database.session() as session:
        sunny, shady = Bed(name="sunny"), Bed(name="shady")
        session.add_all([sunny, shady])
        await session.flush()
        session.add(Plant(name="rose", bed_id=sunny.id))
        session.add(Plant(name="weed", bed_id=sunny.id, deleted_at=utcnow()))
        session.add(Plant(name="moss", bed_id=shady.id, deleted_at=utcnow()))
    async with database.session() as session:
        yield session


# Soft delete: reading

OTHER = aliased(Plant)
READS = {
    "entity": (select(Plant).with_only_columns(Plant.name), ["rose"]),
    "columns": (select(Plant.name), ["rose"]),
    "alias": (select(OTHER.name), ["rose"]),
    "count": (select(func.count()).select_from(Plant), [1]),
    "count of a column": (select(func.count(Plant.id)), [1]),
    "count of a subquery": (select(func.count()).select_from(select(Plant).subquery()), [1]),
    "exists": (select(exists().where(Plant.name == "weed")), [False]),
    "exists of a select": (select(select(Plant).where(Plant.name == "weed").exists()), [False]),
    "constant": (select(literal(1)).select_from(Plant).where(Plant.name == "weed"), []),
    "any": (select(Bed.name).where(Bed.plants.any()), ["sunny"]),
    "any of them": (select(Bed.name).where(Bed.plants.any(Plant.name == "weed")), []),
    "has": (select(OTHER.name).where(OTHER.bed.has(Bed.plants.any(Plant.name == "moss"))), []),
    "join": (select(Plant.name).join(Bed), ["rose"]),
    "join of a relationship": (select(Plant.name).select_from(Bed).join(Bed.plants), ["rose"]),
    "outer join": (select(Plant.name).select_from(Bed).outerjoin(Bed.plants).order_by(Bed.name), [None, "rose"]),
    "in a subquery": (select(Bed.name).where(Bed.id.in_(select(Plant.bed_id))), ["sunny"]),
    "common table": (select(select(Plant.name).cte().c.name), ["rose"]),
    "union": (union_all(select(Plant.name), select(Plant.name)), ["rose", "rose"]),
    "column property": (select(Bed.size).select_from(Bed).order_by(Bed.name), [0, 1]),  # type: ignore[attr-defined]
}


async def test_reads_leave_out_deleted_rows(db):
    found = {case: (await db.scalars(statement)).all() for case, (statement, _) in READS.items()}
    assert found == {case: expected for case, (_, expected) in READS.items()}


@pytest.mark.parametrize("load", [selectinload, joinedload, subqueryload])
async def test_relationships_leave_out_deleted_rows(db, load):
    statement = select(Bed).order_by(Bed.name).options(load(Bed.plants))
    beds = (await db.scalars(statement)).unique().all()
    assert [[plant.name for plant in bed.plants] for bed in beds] == [[], ["rose"]]
    db.expunge_all()
    beds = (await db.scalars(statement, execution_options=DELETED)).unique().all()
    assert [sorted(plant.name for plant in bed.plants) for bed in beds] == [["moss"], ["rose", "weed"]]


async def test_relationships_of_a_new_row_leave_out_deleted_rows(db):
    """The row was never read, so it has no options of a statement."""
    bed = Bed(name="new")
    db.add(bed)
    await db.flush()
    db.add_all([Plant(name="fern", bed_id=bed.id), Plant(name="dock", bed_id=bed.id, deleted_at=utcnow())])
    await db.flush()
    await db.refresh(bed, ["plants"])
    assert [plant.name for plant in bed.plants] == ["fern"]


async def test_many_to_one_leaves_out_a_deleted_row(db):
    weed = await db.scalar(select(Plant.id).where(Plant.name == "weed").execution_options(**DELETED))
    db.add(Label(plant_id=weed))
    await db.flush()
    for load in (selectinload, joinedload):
        db.expunge_all()
        assert (await db.scalars(select(Label).options(load(Label.plant)))).one().plant is None


async def test_statement_can_include_deleted_rows(db):
    assert len((await db.scalars(select(Plant).execution_options(**DELETED))).all()) == 3
    assert len((await db.scalars(select(Plant), execution_options=DELETED)).all()) == 3
    assert await Repository[Plant](db, include_deleted=True).count() == 3
    assert len(await Repository[Plant](db, include_deleted=True).list()) == 3


async def test_soft_delete_does_not_apply_to_text_and_tables(db):
    assert await db.scalar(text("SELECT count(*) FROM plant")) == 3
    assert await db.scalar(select(func.count()).select_from(Plant.metadata.tables["plant"])) == 3


async def test_bulk_statements_leave_deleted_rows_alone(db):
    assert (await db.execute(update(Plant).values(latin=None))).rowcount == 1
    assert (await db.execute(delete(Plant))).rowcount == 1
    assert (await db.execute(delete(Plant).execution_options(**DELETED))).rowcount == 2


async def test_a_row_can_be_refreshed_after_it_is_deleted(db):
    rose = (await db.scalars(select(Plant))).one()
    rose.deleted_at = utcnow()
    await db.flush()
    await db.refresh(rose)
    assert rose.deleted_at is not None


# Soft delete: writing


async def test_a_deleted_row_is_gone_and_can_be_restored(db):
    plants = Repository[Plant](db)
    rose = await plants.one()
    await plants.delete(rose)
    assert rose.deleted_at is not None
    assert await plants.get_or_none(rose.id) is None
    assert await db.get(Plant, rose.id) is None
    assert not await plants.exists(Plant.id == rose.id)
    await plants.restore(rose)
    assert await plants.get(rose.id) is rose
    assert await plants.count() == 1


async def test_a_deleted_row_that_the_session_holds_does_not_leak(db):
    plants, everything = Repository[Plant](db), Repository[Plant](db, include_deleted=True)
    weed = await everything.one(Plant.name == "weed")
    assert await everything.get(weed.id) is weed
    assert await plants.get_or_none(weed.id) is None
    rose = await plants.one()
    assert await plants.delete_where(Plant.name == "rose") == 1
    assert await plants.get_or_none(rose.id) is None


async def test_hard_delete_removes_the_row(db):
    plants = Repository[Plant](db)
    await plants.delete(await plants.one(), hard=True)
    assert await plants.delete_where(Plant.name == "weed") == 0
    assert await plants.delete_where(Plant.name == "weed", hard=True) == 1
    assert await plants.delete_where(true(), hard=True) == 1
    assert await db.scalar(text("SELECT count(*) FROM plant")) == 0


async def test_hard_delete_cascades_to_hidden_rows_in_the_database(db):
    trunks, twigs = Repository[Trunk](db), Repository[Twig](db)
    for trunk in await trunks.create_many({"twigs": [Twig(), Twig()]} for _ in range(2)):
        await twigs.delete(trunk.twigs[0])
    db.expunge_all()
    await trunks.delete((await trunks.list())[0], hard=True)
    assert await db.scalar(text("SELECT count(*) FROM twig")) == 2
    await trunks.delete_where(true(), hard=True)
    assert await db.scalar(text("SELECT count(*) FROM twig")) == 0


async def test_bulk_deletion_hides_rows(db):
    plants = Repository[Plant](db)
    assert await plants.delete_where(true()) == 1
    assert await plants.count() == 0
    assert await Repository[Plant](db, include_deleted=True).update_where(true(), values={"deleted_at": None}) == 3
    assert await plants.count() == 3


async def test_deleted_row_frees_its_unique_value_and_cannot_be_restored_then(database, db):
    plants = Repository[Plant](db)
    rose = await plants.one()
    await plants.delete(rose)
    await plants.create({"name": "rose"})
    await db.commit()

    async def restore() -> None:
        async with database.session() as other:
            everything = Repository[Plant](other, include_deleted=True)
            await everything.restore(await everything.get(rose.id))

    with pytest.raises(ConstraintViolatedException) as caught:
        await restore()
    assert [error["field"] for error in caught.value.extra["errors"]] == ["name"]


async def test_upsert_can_use_the_unique_index_of_live_rows(db):
    plants = Repository[Plant](db)
    rose = await plants.one()
    (again,) = await plants.upsert([{"name": "rose", "latin": "rosa"}], on=[Plant.name])
    assert again is rose
    (weed,) = await plants.upsert([{"name": "weed", "latin": "urtica"}], on=[Plant.name])
    assert weed.deleted_at is None
    assert await db.scalar(text("SELECT count(*) FROM plant WHERE name = 'weed'")) == 2


async def test_upsert_restores_a_deleted_row_with_the_same_key(db):
    plants = Repository[Plant](db)
    fern = await plants.create({"name": "fern", "latin": "filix"})
    await plants.delete(fern)
    with pytest.raises(ConstraintViolatedException):
        await plants.get_or_create({"name": "fern", "latin": "filix"}, on=[Plant.latin])
    (back,) = await plants.upsert([{"name": "fern", "latin": "filix"}], on=[Plant.latin])
    assert back.id == fern.id
    assert await plants.exists(Plant.latin == "filix")


@pytest.mark.parametrize(
    ("statement", "nothing_hidden"),
    [
        (select(Label), True),
        (select(Label).where(Label.plant_id.in_([uuid4()]), Label.id != uuid4()).order_by(Label.id.desc()), True),
        (select(func.count(Label.id)), True),
        (select(Label.id).where(or_(Label.plant_id.is_(None), func.coalesce(Label.id, uuid4()) != uuid4())), True),
        (select(Label.__table__.c.id), True),
        (select(Plant), False),
        (select(Plant.id), False),
        (select(aliased(Plant)), False),
        (select(aliased(Label)), True),
        (select(Bed), False),
        (select(Label).where(Plant.id == Label.plant_id), False),
        (select(Label).join(Label.plant).order_by(Plant.id), False),
        (select(func.max(Plant.name)), False),
        (select(Label).join(Label.plant), False),
        (select(Label).where(Label.plant.has(name="fern")), False),
        (select(Label).where(exists().where(Plant.id == Label.plant_id)), False),
        (select(Label).where(Label.plant_id.in_(select(Plant.id))), False),
        (select(Label.id, select(Plant.name).scalar_subquery()), False),
        (select(Label).options(joinedload(Label.plant)), False),
        (select(select(Plant).subquery()), False),
        (select(Label.id).group_by(Label.id).having(exists(select(Plant))), False),
        (union_all(select(Label.id), select(Plant.id)), False),
        (update(Label).values(plant_id=uuid4()).where(Label.id == uuid4()), True),
    ],
)
async def test_soft_delete_condition_is_in_statements_that_read_the_model(db, statement, nothing_hidden):
    sent: list[str] = []
    event.listen(db.bind.sync_engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    await db.execute(statement)
    assert (".deleted_at IS NULL" not in sent[-1]) is nothing_hidden


def test_session_hook_is_installed_with_the_first_soft_delete_model():
    script = """
from sqlalchemy.orm import Mapped, Session
from appkit import BaseTableModel, Repository, SoftDelete
class Plain(BaseTableModel): pass
class Note(SoftDelete): pass
assert not list(Session().dispatch.do_orm_execute)
session = Session()
class Hidden(Note, BaseTableModel): pass
class Other(BaseTableModel, SoftDelete): pass
assert len(list(session.dispatch.do_orm_execute)) == 1
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Versions


@pytest.fixture
async def recipe(database: Database) -> Recipe:
    async with database.session() as db:
        return await Repository[Recipe](db).create({"title": "Soup"})


async def test_version_detects_the_second_of_two_editors(database, recipe):
    async def edit_slowly() -> None:
        async with database.session() as db:
            mine = await db.get_one(Recipe, recipe.id)
            await db.commit()
            async with database.session() as other:
                await Repository[Recipe](other).update(await other.get_one(Recipe, recipe.id), {"title": "Stew"})
            await Repository[Recipe](db).update(mine, {"title": "Broth"})

    with pytest.raises(StaleVersionException):
        await edit_slowly()
    async with database.session() as db:
        kept = await db.get_one(Recipe, recipe.id)
    assert (kept.title, kept.version) == ("Stew", 2)


async def test_update_compares_the_version_of_the_edit(database, recipe):
    async with database.session() as db:
        recipes = Repository[Recipe](db)
        row = await recipes.get(recipe.id)
        await recipes.update(row, RecipeUpdate(title="Stew", version=1))
        assert row.version == 2
        with pytest.raises(StaleVersionException):
            await recipes.update(row, RecipeUpdate(title="Broth", version=1))
        with pytest.raises(StaleVersionException):
            await recipes.update(row, {"title": "Broth"}, expected_version=1)
        await recipes.update(row, {"title": "Broth"}, expected_version=2)
        await recipes.update(row, RecipeUpdate(title="Soup"))
        assert (row.title, row.version) == ("Soup", 4)


async def test_bulk_statements_increase_the_version(database, recipe):
    async with database.session() as db:
        recipes = Repository[Recipe](db)
        row = await recipes.get(recipe.id)
        assert await recipes.update_where(Recipe.title == "Soup", values={"body": "Boil."}) == 1
        assert row.version == 2
        await recipes.upsert([{"title": "Soup", "body": "Simmer."}], on=[Recipe.title])
        assert (row.version, row.body) == (3, "Simmer.")
        await recipes.update(row, {"body": "Serve."})
        assert row.version == 4


async def test_a_row_written_by_hand_has_a_version(database):
    async with database.session() as db:
        await db.execute(text("INSERT INTO recipe (title, body) VALUES ('Raw', '')"))
        row = await Repository[Recipe](db).one()
        assert (row.version, row.created_by) == (1, None)
        await Repository[Recipe](db).update(row, {"title": "Cooked"})
        assert row.version == 2


def test_versioned_refuses_mapper_args_without_version_id_col():
    with pytest.raises(AppKitError, match="Draft is Versioned, but its __mapper_args__ have no version_id_col"):

        class Draft(Versioned, BaseTableModel):
            kind: Mapped[str]
            __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "draft"}  # noqa: RUF012 - SQLAlchemy's way


def test_versioned_takes_mapper_args_that_extend_its_own():
    class Sketch(Versioned, BaseTableModel):
        kind: Mapped[str]

        @declared_attr.directive
        @classmethod
        def __mapper_args__(cls):
            if "Versioned" in (base.__name__ for base in cls.__bases__):
                return {**super().__mapper_args__, "polymorphic_on": "kind", "polymorphic_identity": "sketch"}
            return {"polymorphic_identity": "child"}

    class Doodle(Sketch):
        pass

    assert Sketch.__mapper__.version_id_col is not None
    assert Doodle.__mapper__.version_id_col is Sketch.__mapper__.version_id_col


# Authors and integer ids


async def test_authored_row_has_the_ids_of_creator_and_last_editor(database):
    ada, bob = uuid4(), uuid4()
    async with database.session() as db:
        recipes = Repository[Recipe](db)
        token = user_id.set(str(ada))
        row = await recipes.create({"title": "Soup"})
        assert (row.created_by, row.updated_by) == (ada, ada)
        user_id.set(str(bob))
        await recipes.update(row, {"body": "Boil."})
        assert (row.created_by, row.updated_by) == (ada, bob)
        user_id.set(str(ada))
        await recipes.upsert([{"title": "Soup", "body": "Simmer."}], on=[Recipe.title])
        assert (row.created_by, row.updated_by) == (ada, ada)
        user_id.reset(token)
        await recipes.update_where(true(), values={"body": "Serve."})
        await db.refresh(row)
        assert (row.created_by, row.updated_by) == (ada, None)


async def test_integer_ids_increase(database):
    async with database.session() as db:
        made = await Repository[Recipe](db).create_many({"title": title} for title in "abc")
        assert [row.id for row in made] == [1, 2, 3]
        assert (await Repository[Recipe](db).get(2)).title == "b"
        assert [row.title async for row in Repository[Recipe](db).stream(batch=2)] == list("abc")
