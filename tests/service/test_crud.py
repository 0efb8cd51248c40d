"""CRUDService: its five methods, and the hooks before and after each method."""

from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from pydantic import BaseModel
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped

from appkit.exceptions import AppKitError, ForbiddenException, NotFoundException, StaleVersionException
from appkit.repository.base import BaseTableModel
from appkit.repository.database import Database
from appkit.repository.filters import CursorQuery, PageQuery
from appkit.repository.mixins import SoftDelete, Versioned
from appkit.repository.repository import Repository
from appkit.service.base import BaseService
from appkit.service.crud import CRUDService


class Chore(SoftDelete, Versioned, BaseTableModel):
    title: Mapped[str]
    done: Mapped[bool]


class ChoreCreate(BaseModel):
    title: str


class ChoreUpdate(BaseModel):
    title: str = ""
    done: bool = False
    version: int = 0


class ChoreService(CRUDService[Chore, ChoreCreate, ChoreUpdate]):
    """Logs the hooks that ran, with their arguments."""

    def __init__(self, db: AsyncSession) -> None:
        super().__init__(db)
        self.log: list[Any] = []

    async def before_page(self, query):
        self.log.append(("before_page", query.size))

    async def after_page(self, rows):
        self.log.append(("after_page", len(rows)))

    async def before_get(self, ident):
        self.log.append(("before_get", ident))

    async def after_get(self, row):
        self.log.append(("after_get", row.id))

    async def before_create(self, row, data):
        self.log.append(("before_create", row.id, data.title))
        row.done = False

    async def after_create(self, row, data):
        self.log.append(("after_create", row.version, data.title))

    async def before_update(self, row, data):
        self.log.append(("before_update", row.title, data.title))

    async def after_update(self, row, data):
        self.log.append(("after_update", row.title, data.title))

    async def before_delete(self, row):
        self.log.append(("before_delete", row.deleted_at is None))

    async def after_delete(self, row):
        self.log.append(("after_delete", row.deleted_at is None))


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[ChoreService]:
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(Chore.metadata.tables["chore"].create)
    async with database.session() as db:
        yield ChoreService(db)
    await database.dispose()


async def test_each_method_runs_its_hooks(service):
    chore = await service.create(ChoreCreate(title="Sweep"))
    assert service.log == [("before_create", None, "Sweep"), ("after_create", 1, "Sweep")]
    service.log.clear()
    assert await service.get(chore.id) is chore
    got = [("before_get", chore.id), ("after_get", chore.id)]
    assert service.log == got
    service.log.clear()
    assert (await service.page(PageQuery())).total == 1
    assert (await service.page(CursorQuery(size=3))).items == [chore]
    assert service.log == [("before_page", 20), ("after_page", 1), ("before_page", 3), ("after_page", 1)]
    service.log.clear()
    assert await service.update(chore.id, ChoreUpdate(title="Mop")) is chore
    assert service.log == [*got, ("before_update", "Sweep", "Mop"), ("after_update", "Mop", "Mop")]
    service.log.clear()
    await service.delete(chore.id)
    assert service.log == [*got, ("before_delete", True), ("after_delete", False)]


async def test_methods_accept_a_loaded_row(service):
    chore = await service.create(ChoreCreate(title="Sweep"))
    service.log.clear()
    await service.update(chore, ChoreUpdate(done=True))
    await service.delete(chore)
    assert [entry[0] for entry in service.log] == ["before_update", "after_update", "before_delete", "after_delete"]
    assert (chore.title, chore.done) == ("Sweep", True)


async def test_missing_row_is_404(service):
    for attempt in (service.get(uuid4()), service.update(uuid4(), ChoreUpdate()), service.delete(uuid4())):
        with pytest.raises(NotFoundException):
            await attempt


async def test_delete_hides_rows_of_soft_delete_models(service):
    chore = await service.create(ChoreCreate(title="Sweep"))
    await service.delete(chore)
    with pytest.raises(NotFoundException):
        await service.get(chore.id)
    assert await Repository(service.db, Chore, include_deleted=True).count() == 1


async def test_base_service_delete_hides_soft_delete_rows(service):
    chore = await service.create(ChoreCreate(title="Sweep"))
    await BaseService(service.db).delete(chore)
    assert await Repository(service.db, Chore).count() == 0
    assert await Repository(service.db, Chore, include_deleted=True).count() == 1


async def test_update_of_a_stale_version_is_refused(service):
    chore = await service.create(ChoreCreate(title="Sweep"))
    await service.update(chore, ChoreUpdate(title="Mop", version=1))
    with pytest.raises(StaleVersionException):
        await service.update(chore, ChoreUpdate(title="Dust", version=1))


async def test_hook_that_raises_ends_the_method(service):
    chore = await service.create(ChoreCreate(title="Sweep"))

    class Locked(CRUDService[Chore, ChoreCreate, ChoreUpdate]):
        async def before_delete(self, row):
            if not row.done:
                raise ForbiddenException

    with pytest.raises(ForbiddenException):
        await Locked(service.db).delete(chore.id)
    assert await service.repository.exists(Chore.id == chore.id)


async def test_repository_can_be_overridden(service):
    class Open(Repository[Chore]):
        def select(self) -> Select[Chore]:
            return super().select().where(~Chore.done)

    class OpenService(CRUDService[Chore, ChoreCreate, ChoreUpdate]):
        @cached_property
        def repository(self) -> Open:
            return Open(self.db)

    chore = await service.create(ChoreCreate(title="Sweep"))
    opened = OpenService(service.db)
    assert await opened.get(chore.id) is chore
    await opened.update(chore, ChoreUpdate(done=True))
    with pytest.raises(NotFoundException):
        await opened.get(chore.id)


async def test_service_works_without_a_subclass(service):
    plain = CRUDService[Chore, ChoreCreate, ChoreUpdate](service.db)
    chore = plain.repository.new(ChoreCreate(title="Sweep"), done=True)
    assert await plain.save(chore) is await plain.get(chore.id)


def test_service_without_a_model_raises():
    class Nothing(CRUDService):  # type: ignore[type-arg]  # the missing type is the mistake
        names: ClassVar = ()

    with pytest.raises(AppKitError, match="Nothing doesn't say which model it is for"):
        _ = Nothing(AsyncSession()).repository
