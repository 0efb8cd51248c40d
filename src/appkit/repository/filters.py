"""Query parameters of a list endpoint: filters, full-text search, sorting and pages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticKnownError
from sqlalchemy import Boolean, ColumnElement, SQLColumnExpression, and_, func, literal, or_, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from appkit.exceptions import AppKitError
from appkit.repository.pagination import Count

# SQLite limits the depth of expressions and the length of patterns.
_MAX_WORDS = 50
_MAX_LENGTH = 10_000

T = TypeVar("T")
Text = SQLColumnExpression[str] | SQLColumnExpression[str | None]


@dataclass(frozen=True)
class Where:
    """The condition that a query parameter adds to the query.

        class PostFilters(BaseModel):
            title: Annotated[str | None, Where.contains(Post.title)] = None
            author: Annotated[str | None, Where(lambda name: Post.author.has(User.name == name))] = None

    `clause` makes the condition from the parameter's value.
    """

    clause: Callable[[Any], ColumnElement[bool]]

    @classmethod
    def contains(cls, *columns: Text) -> "Where":
        """The text occurs in one of the columns, in upper or lower case. `%` and `_` have no special meaning."""
        return cls(lambda value: or_(*(column.icontains(value, autoescape=True) for column in columns)))

    @classmethod
    def search(cls, *columns: Text, language: str = "simple") -> "Where":
        """Full-text search in these columns.

        On PostgreSQL, the text may use the syntax of `websearch_to_tsquery`: a phrase in quotes, `or`, and `-` for not.
        `language` is a text search configuration: `english` also finds other forms of a word, and `simple` doesn't. On
        SQLite, each of the first 50 words must occur in a column.
        """
        vector = search_vector(*columns, language=language)

        def matches(value: str) -> ColumnElement[bool]:
            words = value.replace('"', " ").split()[:_MAX_WORDS]
            if not words:
                return true()
            everywhere = and_(*(cls.contains(*columns).clause(word) for word in words))
            return _Matches(vector.bool_op("@@")(func.websearch_to_tsquery(_constant(language), value)), everywhere)

        return cls(matches)


def search_vector(*columns: Text, language: str = "simple") -> ColumnElement[Any]:
    """The expression for an index that speeds up `Where.search` with the same arguments.

        vector = search_vector(Post.title, Post.content)
        Index("ix_post_search", vector, postgresql_using="gin").ddl_if(dialect="postgresql")

    SQLite has no such index.
    """
    document: Any = func.coalesce(columns[0], _constant(""))
    for column in columns[1:]:  # `op`, not `+`: its brackets are PostgreSQL's, so migrations see no change.
        document = document.op("||")(_constant(" ")).op("||")(func.coalesce(column, _constant("")))
    return func.to_tsvector(_constant(language), document)


def _constant(value: str) -> ColumnElement[str]:
    """A literal in the SQL. PostgreSQL uses an index on an expression only for the same expression."""
    return literal(value, literal_execute=True)


class _Matches(FunctionElement[bool]):
    """A condition for PostgreSQL, and another one for other databases."""

    type = Boolean()
    inherit_cache = True


@compiles(_Matches)
def _compile(element: _Matches, compiler: SQLCompiler, **options: Any) -> str:
    for_postgresql, for_others = element.clauses.clauses
    condition = for_postgresql if compiler.dialect.name == "postgresql" else for_others
    return f"({compiler.process(condition, **options)})"


def _terms(sort: str | None) -> list[tuple[str, bool]]:
    """The names to sort by. True means a descending order."""
    return [] if not sort else [(term.removeprefix("-"), term.startswith("-")) for term in sort.split(",")]


def _markers(field: FieldInfo) -> list[Where]:
    """The `Where` objects of `Annotated[str | None, Where(…)]` and of `Annotated[str, Where(…)] | None`."""
    inner = [each for choice in get_args(field.annotation) for each in getattr(choice, "__metadata__", ())]
    return [each for each in (*field.metadata, *inner) if isinstance(each, Where)]


class ListQuery(BaseModel):
    """The base class of `PageQuery` and `CursorQuery`. Refuses unknown parameters, and datetimes without a time zone.

    Raises:
        AppKitError: When `default_sort` has a name that is not in `sortable`.
    """

    model_config = ConfigDict(extra="forbid")

    sortable: ClassVar[Mapping[str, SQLColumnExpression[Any]]] = {}
    """The columns to sort by, each with its name in the API."""
    default_sort: ClassVar[str] = ""
    """The default order, such as `-created_at,title`. If empty, rows are sorted by primary key."""

    sort: str | None = None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name, _ in _terms(cls.default_sort):
            if name not in cls.sortable:
                raise AppKitError(f"{cls.__name__}.default_sort names {name!r}, which is not in its `sortable`.")
        names = " or ".join(f"`{name}`" for name in cls.sortable) or "nothing"
        default = f" Default: `{cls.default_sort}`." if cls.default_sort else ""
        how = f"Sort by {names}, separated by commas. `-` before a name: descending."
        cls.model_fields["sort"].description = how + default

    @field_validator("sort")
    @classmethod
    def _check_sort(cls, value: str | None) -> str | None:
        names = [name for name, _ in _terms(value)]
        if not set(names) <= cls.sortable.keys():
            choice = ", ".join(cls.sortable)
            how = f"Sort by {choice}. Put - before a name to sort in descending order."
            raise ValueError(how if choice else "This can't be sorted.")
        if len(set(names)) < len(names):
            raise ValueError("Use each name only once.")
        return value

    @field_validator("*")
    @classmethod
    def _check_value(cls, value: T, info: ValidationInfo) -> T:
        if isinstance(value, str) and len(value) > _MAX_LENGTH and info.field_name != "cursor":
            raise PydanticKnownError("string_too_long", {"max_length": _MAX_LENGTH})
        for each in value if isinstance(value, list | tuple | set | frozenset) else (value,):
            if isinstance(each, datetime) and each.tzinfo is None:
                raise PydanticKnownError("timezone_aware")
        return value

    def where(self) -> list[ColumnElement[bool]]:
        """The conditions of the given parameters."""
        return [
            marker.clause(value)
            for name, field in type(self).model_fields.items()
            if (value := getattr(self, name)) is not None
            for marker in _markers(field)
        ]

    def order(self) -> list[SQLColumnExpression[Any]]:
        """The requested order, or the default."""
        terms = _terms(self.sort or self.default_sort)
        return [self.sortable[name].desc() if down else self.sortable[name].asc() for name, down in terms]


class PageQuery(ListQuery):
    """A page by number. Pages with a high number are slow.

        class PostQuery(PageQuery, PostFilters):
            sortable = {"title": Post.title, "created_at": Post.created_at}
            default_sort = "-created_at"

        @router.get("")
        async def list_posts(query: Annotated[PostQuery, Query()], db: ReadSession) -> Page[PostSchema]:
            return Page[PostSchema].model_validate(await Repository[Post](db).page(query))

    FastAPI allows only one class with query parameters for each endpoint.
    """

    count: ClassVar[Count] = "exact"
    """Count all rows (`exact`), up to 10,000 of them (`capped`), or `none`."""

    page: int = Field(default=1, ge=1, le=10_000, description="Which page; the first is 1.")
    size: int = Field(default=20, ge=1, le=200, description="How many items at most.")


class CursorQuery(ListQuery):
    """A page by cursor (keyset), for feeds and large tables. Every page is as fast as the first one.

    Raises:
        AppKitError: When a column of `sortable` is nullable, because pages would skip rows with NULL.
    """

    cursor: str | None = Field(default=None, description="The `next_cursor` of the page before; none for the first.")
    size: int = Field(default=20, ge=1, le=200, description="How many items at most.")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name, column in cls.sortable.items():
            if getattr(column, "nullable", False):
                raise AppKitError(
                    f"{cls.__name__} can't sort by {name!r}: the column may be NULL, and pages would skip such rows. "
                    "Leave it out, or use a PageQuery."
                )
