"""What a statement reads, as far as a glance tells."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Select, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, ColumnClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import FromClause, SelectBase

_further = attrgetter(
    "_with_options",
    "_setup_joins",
    "_from_obj",
    "_memoized_select_entities",
    "_group_by_clauses",
    "_having_criteria",
    "_distinct_on",
    "_independent_ctes",
)
_SELECTABLE = (FromClause, SelectBase)

_alone: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def reads_only(statement: Any, accept: Callable[[Table], bool]) -> bool:
    """Whether a statement reads nothing but these tables, whatever comes with their models.

    False where only a longer look could tell: at joins, subqueries, aliases and options.
    """
    if not isinstance(statement, Select) or any(_further(statement)):
        return False
    parts = (*statement._raw_columns, *statement._where_criteria, *statement._order_by_clauses)  # noqa: SLF001
    return all(_reads_only(part, accept) for part in parts)


def _reads_only(part: Any, accept: Callable[[Table], bool]) -> bool:
    if isinstance(part, Table):
        return accept(part) and _comes_alone(part._annotations.get("parententity"))  # noqa: SLF001
    nodes = [part]
    while nodes:  # As `visitors.iterate` does, in a fraction of its time.
        node = nodes.pop()
        if isinstance(node, BindParameter):
            continue
        if isinstance(node, ColumnClause):
            if not (isinstance(node.table, Table) and accept(node.table)):
                return False
        elif isinstance(node, BinaryExpression):
            nodes += (node.left, node.right)
        elif isinstance(node, _SELECTABLE) and not isinstance(node, FunctionElement):
            return False
        else:
            nodes += node.get_children()
    return True


def _comes_alone(entity: Any) -> bool:
    """Whether a model's rows are read without joins or subqueries of its own."""
    known = entity is None or _alone.get(entity)
    if known is None:
        known = _alone[entity] = (
            isinstance(entity, Mapper)
            and entity.with_polymorphic is None
            and all(each.lazy != "joined" for each in entity.relationships)
            and all(isinstance(each.columns[0], ColumnClause) for each in entity.column_attrs)
        )
    return known
