"""The tables that a test's app has: appkit's and the test's own, but none that other tests define in this process."""

from sqlalchemy import Table

from appkit.repository import auth, outbox, plain_user
from appkit.repository.base import Base

_EVERY_APP = {module.__name__ for module in (auth, outbox, plain_user)}


def tables_of_every_app() -> list[Table]:
    """The tables of an app without plugins and without models of its own, each after those it refers to."""
    modules = _modules()
    return [table for table in Base.metadata.sorted_tables if modules.get(table) in _EVERY_APP]


def tables_of(test: str) -> dict[str, Table]:
    """The tables that a test in this module sees; those of optional features only beside their own tests."""
    modules, own = _modules(), {test, f"{test.rpartition('.')[0]}.conftest"}
    optional = test.startswith("tests.contrib.")
    return {
        name: table
        for name, table in Base.metadata.tables.items()
        if (module := modules.get(table, "")) in _EVERY_APP | own or (optional and module.startswith("appkit.contrib."))
    }


def _modules() -> dict[object, str]:
    """Which module defines each table's model."""
    return {mapper.local_table: mapper.class_.__module__ for mapper in Base.registry.mappers}
