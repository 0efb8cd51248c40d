"""Code that uses private names of SQLAlchemy. Check this module first when a new version of SQLAlchemy fails."""

from collections import deque
from typing import Any, Final

from sqlalchemy import Index
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection, AsyncAdapt_aiosqlite_cursor
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import RelationshipProperty, strategies

TRIED_WITH: Final = {"sqlalchemy": "2.1.9", "aiosqlite": "0.22.1"}
"""The newest versions that this module was tested with. A test fails if a newer version is installed."""


class _ShortCursor(AsyncAdapt_aiosqlite_cursor):
    """Switches to the driver's thread once to execute a statement, and once to fetch the rows.

    SQLAlchemy's own cursor also switches to open and to close a cursor. These switches take 20 to 25 % of a request's
    processor time. SQLite doesn't need them, because a cursor holds no lock after its rows were fetched.
    """

    __slots__ = ()
    _awaitable_cursor_close = False

    def _make_new_cursor(self, connection: Any) -> Any:
        return connection

    def _aenter_cursor(self, cursor: Any) -> Any:
        return cursor

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        async with self._adapt_connection._execute_mutex:  # noqa: SLF001 - like the method that this overrides
            self._cursor = await self._connection.execute(operation, parameters)
            if self._cursor.description:
                self._rows = deque(await self._cursor.fetchall())

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        async with self._adapt_connection._execute_mutex:  # noqa: SLF001 - as above
            self._cursor = await self._connection.executemany(operation, seq_of_parameters)

    def close(self) -> None:
        self._rows.clear()


class _ShortConnection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()
    _cursor_cls = _ShortCursor

    def rollback(self) -> None:
        if self.driver_connection.in_transaction:  # Save a switch to the driver's thread.
            super().rollback()


def with_short_cursors(connection: AsyncAdapt_aiosqlite_connection) -> AsyncAdapt_aiosqlite_connection:
    """The same aiosqlite connection, with short cursors."""
    return _ShortConnection(connection.dbapi, connection.driver_connection)


def refuse_lazy_loading(relationship: RelationshipProperty[Any]) -> None:
    """Make the relationship raise an error when reading it would need a query."""
    relationship.lazy = "raise_on_sql"
    relationship.strategy_key = (("lazy", _STRATEGY),)


_LazyLoader: Any = getattr(strategies, "_LazyLoader", None)
_STRATEGY = "raise_on_sql" if _LazyLoader is None else "raise_and_say_how_to_load"

if _LazyLoader is not None:  # Without this class, the error has SQLAlchemy's own message.

    @RelationshipProperty.strategy_for(lazy=_STRATEGY)
    class _RefusingLoader(_LazyLoader):  # type: ignore[misc] # The base class is looked up at run time.
        __slots__ = ()

        def __init__(self, parent: RelationshipProperty[Any], strategy_key: Any) -> None:
            super().__init__(parent, strategy_key)
            self._raise_on_sql = True  # type: ignore[misc] # A slot of that base class.

        def _invoke_raise_load(self, state: Any, *_: Any) -> None:
            name, key = state.class_.__name__, self.key
            raise InvalidRequestError(
                f"{name}.{key} was not loaded, and reading it doesn't query (lazy='raise_on_sql'). "
                f"Load it with the query: .options(selectinload({name}.{key})); or load it for a row that you have: "
                f'await db.refresh(row, ["{key}"]).'
            )


def has_option(statement: Any, option: object) -> bool:
    """Whether a statement has exactly this loader option."""
    return any(each is option for each in statement._with_options)  # noqa: SLF001 - no public name


def is_conditional(index: Index) -> bool:
    """Whether an index is created only on some databases (`ddl_if()`)."""
    return getattr(index, "_ddl_if", None) is not None
