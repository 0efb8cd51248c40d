"""Record the operations of a migration without a database, for the lint.

This code uses private names of Alembic. Check this module first when a new version of Alembic fails.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Final

from alembic.operations import BatchOperations, MigrateOperation, Operations
from alembic.operations.batch import BatchOperationsImpl
from alembic.operations.ops import CreateTableOp, ExecuteSQLOp
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects.postgresql.base import PGDialect

TRIED_WITH: Final = {"alembic": "1.20.1"}
"""The newest version that this module was tested with. A test fails if a newer version is installed."""


@dataclass(frozen=True)
class Step:
    """One operation, and whether it runs inside a transaction."""

    operation: MigrateOperation
    in_transaction: bool


@dataclass
class Recording:
    """What `upgrade` or `downgrade` of a migration does."""

    steps: list[Step] = field(default_factory=list)
    failure: Exception | None = None
    """The error that the function raised, perhaps because it needs a database."""


def record(function: Callable[[], None]) -> Recording:
    """Run `upgrade` or `downgrade` with PostgreSQL's dialect, and record the operations."""
    recording = Recording()
    postgresql = PGDialect()  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy
    recorder = _Recorder(_Context(postgresql, None, {"as_sql": True, "output_buffer": StringIO()}), recording)
    recorder._install_proxy()  # noqa: SLF001 - sets the functions of `alembic.op`
    try:
        function()
    except Exception as exc:  # noqa: BLE001 - a migration may raise anything
        recording.failure = exc
    finally:
        recorder._remove_proxy()  # noqa: SLF001 - as above
    return recording


class _Context(MigrationContext):
    in_transaction = True

    @contextmanager
    def autocommit_block(self) -> Iterator[None]:
        self.in_transaction = False
        yield
        self.in_transaction = True


class _Recorder(Operations):
    def __init__(self, context: _Context, recording: Recording) -> None:
        super().__init__(context)
        self._context = context
        self._recording = recording

    @property
    def _setups(self) -> Any:  # type: ignore[override]  # read-only here
        """The functions of `alembic.op`. Alembic looks them up by class, so this class takes those of `Operations`."""
        return {_Recorder: Operations._setups[Operations]}  # noqa: SLF001 - of the base class

    def invoke(self, operation: MigrateOperation) -> Any:
        self._recording.steps.append(Step(operation, self._context.in_transaction))
        return operation.to_table(self._context) if isinstance(operation, CreateTableOp) else None

    @contextmanager
    def batch_alter_table(self, table_name: str, schema: str | None = None, **_: Any) -> Iterator[BatchOperations]:  # type: ignore[override]  # The other parameters are for SQLite.
        yield _Batch(self, table_name, schema)

    def get_bind(self) -> Any:
        return _FakeConnection(self)


class _Batch(BatchOperations):
    def __init__(self, recorder: _Recorder, table: str, schema: str | None) -> None:
        impl = BatchOperationsImpl(recorder, table, schema, "never", None, (), {}, (), {}, None, None)  # type: ignore[no-untyped-call]  # untyped in Alembic
        super().__init__(recorder.migration_context, impl=impl)
        self._recorder = recorder

    def invoke(self, operation: MigrateOperation) -> Any:
        return self._recorder.invoke(operation)


class _FakeConnection:
    """A connection that finds no rows, and records statements as `op.execute` does."""

    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder
        self.dialect = recorder.migration_context.dialect

    def execute(self, statement: Any, *_: Any, **__: Any) -> "_FakeConnection":
        self._recorder.invoke(ExecuteSQLOp(statement))
        return self

    scalar = scalars = exec_driver_sql = execute

    def fetchall(self) -> list[Any]:
        return []

    all = mappings = fetchall

    def __iter__(self) -> Iterator[Any]:
        return iter(())
