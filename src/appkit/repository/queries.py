"""Queries that were not meant: relationships that nobody loaded, and statements that run for each row."""

from collections import Counter
from contextvars import ContextVar
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import RelationshipProperty, strategies

statements: ContextVar[Counter[str] | None] = ContextVar("appkit_statements", default=None)
"""How often each statement ran for the request in hand, where somebody counts."""


def count_statements(engine: AsyncEngine) -> None:
    """Count what runs on this engine, while `statements` holds a counter."""
    event.listen(engine.sync_engine, "before_cursor_execute", _count)


def _count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    counter = statements.get()
    if counter is not None and not statement.startswith(("BEGIN", "PRAGMA")):
        counter[statement] += 1


def refuse_lazy_loading(relationship: RelationshipProperty[Any]) -> None:
    """Raise where reading the relationship would query, rather than query behind the reader's back."""
    relationship.lazy = "raise_on_sql"
    relationship.strategy_key = (("lazy", _STRATEGY),)


_STRATEGY = "raise_on_sql"
_LazyLoader: Any = getattr(strategies, "_LazyLoader", None)

if _LazyLoader is not None:  # It is SQLAlchemy's own affair; without it, SQLAlchemy's own message has to do.
    _STRATEGY = "raise_and_say_how_to_load"

    @RelationshipProperty.strategy_for(lazy=_STRATEGY)
    class _RefusingLoader(_LazyLoader):  # type: ignore[misc] # Its base is looked up.
        __slots__ = ()

        def __init__(self, parent: RelationshipProperty[Any], strategy_key: Any) -> None:
            super().__init__(parent, strategy_key)
            self._raise_on_sql = True  # type: ignore[misc] # A slot of the base that is looked up.

        def _invoke_raise_load(self, state: Any, *_: Any) -> None:
            name, key = state.class_.__name__, self.key
            raise InvalidRequestError(
                f"{name}.{key} was not loaded, and is not queried for when it is read (lazy='raise_on_sql'). "
                f"Load it with the query, by .options(selectinload({name}.{key})), or for a row that you have, "
                f'by await db.refresh(row, ["{key}"]).'
            )
