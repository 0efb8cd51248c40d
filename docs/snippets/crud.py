"""A library's books: a table, its schemas and query, and five routes."""

from typing import Annotated, ClassVar
from uuid import UUID

from fastapi import Depends
from sqlalchemy.orm import Mapped, mapped_column

from appkit import (
    AppKit,
    BaseTableModel,
    ConflictException,
    CRUDService,
    PageQuery,
    Schema,
    SoftDelete,
    Versioned,
    Where,
    crud_router,
)
from appkit.api.dependencies import get_user


class Book(SoftDelete, Versioned, BaseTableModel):
    __table_args__ = (SoftDelete.unique("isbn"),)

    isbn: Mapped[str]
    title: Mapped[str]
    on_loan: Mapped[bool] = mapped_column(default=False)


class BookSchema(Schema):
    id: UUID
    isbn: str
    title: str
    on_loan: bool
    version: int


class BookCreate(Schema):
    isbn: str
    title: str


class BookUpdate(Schema):
    title: str = ""
    on_loan: bool = False
    version: int | None = None


class BookQuery(PageQuery):
    sortable: ClassVar = {"title": Book.title, "added": Book.created_at}
    default_sort = "-added"

    title: Annotated[str | None, Where.contains(Book.title)] = None
    on_loan: Annotated[bool | None, Where(lambda value: Book.on_loan == value)] = None


class BookOnLoanException(ConflictException):
    """The book is on loan."""

    internal_code = 40901
    detail = "This book is on loan. Try again when it has been returned."


class BookService(CRUDService[Book, BookCreate, BookUpdate]):
    async def before_delete(self, row: Book) -> None:
        if row.on_loan:
            raise BookOnLoanException


reading = crud_router(
    BookService,
    read=BookSchema,
    query=BookQuery,
    prefix="/books",
    actions=["list", "get"],
)
writing = crud_router(
    BookService,
    read=BookSchema,
    create=BookCreate,
    update=BookUpdate,
    query=BookQuery,
    prefix="/books",
    actions=["create", "update", "delete"],
    dependencies=[Depends(get_user)],
)

kit = AppKit(routers=[reading, writing])
app, broker = kit.app, kit.broker
