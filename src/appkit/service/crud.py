"""CRUDService: lists, gets, creates, updates and deletes the rows of a model, with hooks."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar, overload

from pydantic import BaseModel

from appkit.repository.base import model_of
from appkit.repository.filters import CursorQuery, PageQuery
from appkit.repository.pagination import KeysetPage, OffsetPage
from appkit.repository.repository import Repository
from appkit.service.base import BaseService

ModelT = TypeVar("ModelT")
CreateT = TypeVar("CreateT", bound=BaseModel)
UpdateT = TypeVar("UpdateT", bound=BaseModel)


class CRUDService(BaseService, Generic[ModelT, CreateT, UpdateT]):
    """Lists, gets, creates, updates and deletes the rows of one model. Override the hooks to add rules.

        class PostService(CRUDService[Post, PostCreate, PostUpdate]):
            async def after_create(self, row: Post, data: PostCreate) -> None:
                self.emit(PostCreated(post_id=row.id))

    A method raises `NotFoundException` if no row has the given primary key. If a hook raises an exception, the
    transaction is rolled back. To limit the rows that the service can see, override the repository:

            @cached_property
            def repository(self) -> PostRepository:
                return PostRepository(self.db)
    """

    @cached_property
    def repository(self) -> Repository[ModelT]:
        """The repository of the rows."""
        return Repository(self.db, model_of(getattr(self, "__orig_class__", type(self)), CRUDService))

    @overload
    async def page(self, query: PageQuery) -> OffsetPage[ModelT]: ...
    @overload
    async def page(self, query: CursorQuery) -> KeysetPage[ModelT]: ...
    async def page(self, query: PageQuery | CursorQuery) -> OffsetPage[ModelT] | KeysetPage[ModelT]:
        """The page of rows for a query."""
        await self.before_page(query)
        page = await self.repository.page(query)
        await self.after_page(page.items)
        return page

    async def get(self, ident: Any) -> ModelT:
        """The row with this primary key."""
        await self.before_get(ident)
        row = await self.repository.get(ident)
        await self.after_get(row)
        return row

    async def create(self, data: CreateT) -> ModelT:
        """Create a row."""
        row = self.repository.new(data)
        await self.before_create(row, data)
        await self.save(row)
        await self.after_create(row, data)
        return row

    async def update(self, row: Any, data: UpdateT) -> ModelT:
        """Update a row, or the row with this primary key. Fields that the data doesn't set stay unchanged.

        Raises:
            StaleVersionException: When a `Versioned` row no longer has the data's `version`.
        """
        found = await self._find(row)
        await self.before_update(found, data)
        await self.repository.update(found, data)
        await self.after_update(found, data)
        return found

    async def delete(self, obj: object) -> None:
        """Delete a row, or the row with this primary key."""
        row = await self._find(obj)
        await self.before_delete(row)
        await self.repository.delete(row)
        await self.after_delete(row)

    async def _find(self, row: Any) -> ModelT:
        return row if isinstance(row, self.repository.model) else await self.get(row)

    async def before_page(self, query: PageQuery | CursorQuery) -> None:
        """Before a page is read."""

    async def after_page(self, rows: Sequence[ModelT]) -> None:
        """After a page was read."""

    async def before_get(self, ident: Any) -> None:
        """Before a row is read. Updating or deleting a row by its primary key reads the row first."""

    async def after_get(self, row: ModelT) -> None:
        """After a row was read. Raise NotFoundException here if the user may not see the row."""

    async def before_create(self, row: ModelT, data: CreateT) -> None:
        """Before a row is written. Set columns here that the client doesn't choose."""

    async def after_create(self, row: ModelT, data: CreateT) -> None:
        """After a row was written. `emit` events here."""

    async def before_update(self, row: ModelT, data: UpdateT) -> None:
        """Before a row is changed."""

    async def after_update(self, row: ModelT, data: UpdateT) -> None:
        """After a changed row was written."""

    async def before_delete(self, row: ModelT) -> None:
        """Before a row is deleted."""

    async def after_delete(self, row: ModelT) -> None:
        """After a row was deleted."""
