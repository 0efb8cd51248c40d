"""CRUDService: the five verbs of a resource, with a place before and after each for what is special about it."""

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
    """Lists, gets, creates, updates and deletes the rows of one model.

        class PostService(CRUDService[Post, PostCreate, PostUpdate]):
            async def after_create(self, row: Post, data: PostCreate) -> None:
                self.emit(PostCreated(post_id=row.id))

    What a hook raises ends the verb, and with it the transaction. Which rows there are is the repository's to say:

            @cached_property
            def repository(self) -> PostRepository:
                return PostRepository(self.db)
    """

    @cached_property
    def repository(self) -> Repository[ModelT]:
        """Where the rows are: override it for a repository of your own."""
        return Repository(self.db, model_of(getattr(self, "__orig_class__", type(self)), CRUDService))

    @overload
    async def page(self, query: PageQuery) -> OffsetPage[ModelT]: ...
    @overload
    async def page(self, query: CursorQuery) -> KeysetPage[ModelT]: ...
    async def page(self, query: PageQuery | CursorQuery) -> OffsetPage[ModelT] | KeysetPage[ModelT]:
        """The page that a query asks for."""
        await self.before_page(query)
        page = await self.repository.page(query)
        await self.after_page(page.items)
        return page

    async def get(self, ident: Any) -> ModelT:
        """The row with this primary key.

        Raises:
            NotFoundException: When there is none.
        """
        await self.before_get(ident)
        row = await self.repository.get(ident)
        await self.after_get(row)
        return row

    async def create(self, data: CreateT) -> ModelT:
        """Write a new row."""
        row = self.repository.new(data)
        await self.before_create(row, data)
        await self.save(row)
        await self.after_create(row, data)
        return row

    async def update(self, row: Any, data: UpdateT) -> ModelT:
        """Change a row, or the one with this primary key: what the data doesn't set stays as it is.

        Raises:
            NotFoundException: When there is none.
            StaleVersionException: When the data has the `version` of a `Versioned` row, and it has a later one.
        """
        found = await self._find(row)
        await self.before_update(found, data)
        await self.repository.update(found, data)
        await self.after_update(found, data)
        return found

    async def delete(self, obj: object) -> None:
        """Delete a row, or the one with this primary key.

        Raises:
            NotFoundException: When there is none.
        """
        row = await self._find(obj)
        await self.before_delete(row)
        await self.repository.delete(row)
        await self.after_delete(row)

    async def _find(self, row: Any) -> ModelT:
        return row if isinstance(row, self.repository.model) else await self.get(row)

    async def before_page(self, query: PageQuery | CursorQuery) -> None:
        """Before a page is read."""

    async def after_page(self, rows: Sequence[ModelT]) -> None:
        """With the rows of a page."""

    async def before_get(self, ident: Any) -> None:
        """Before a row is read, to be changed or deleted too."""

    async def after_get(self, row: ModelT) -> None:
        """With the row: the place to say that it is not the caller's to see."""

    async def before_create(self, row: ModelT, data: CreateT) -> None:
        """With a row that is not written yet: the place for columns that the caller doesn't choose."""

    async def after_create(self, row: ModelT, data: CreateT) -> None:
        """With the row as written: the place to `emit` what happened."""

    async def before_update(self, row: ModelT, data: UpdateT) -> None:
        """With the row as it still is."""

    async def after_update(self, row: ModelT, data: UpdateT) -> None:
        """With the row as written."""

    async def before_delete(self, row: ModelT) -> None:
        """With the row that is to go."""

    async def after_delete(self, row: ModelT) -> None:
        """With what was the row."""
