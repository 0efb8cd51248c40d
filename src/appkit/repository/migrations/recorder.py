"""What a migration would do, as Alembic's own operation objects: it runs, and no database is asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from alembic.operations import BatchOperations, MigrateOperation, Operations
from alembic.operations.batch import BatchOperationsImpl
from alembic.operations.ops import CreateTableOp, ExecuteSQLOp
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects.postgresql.base import PGDialect


@dataclass(frozen=True)
class Step:
    """One operation, and whether it has a transaction around it."""

    operation: MigrateOperation
    in_transaction: bool


@dataclass
class Recording:
    """What one function of a migration does."""

    steps: list[Step] = field(default_factory=list)
    failure: Exception | None = None
    """What it raised, perhaps for the want of a database."""


def record(function: Callable[[], None]) -> Recording:
    """Run `upgrade` or `downgrade` as if on PostgreSQL, and note what it asks for."""
    recording = Recording()
    postgresql = PGDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's.
    recorder = _Recorder(_Context(postgresql, None, {"as_sql": True, "output_buffer": StringIO()}), recording)
    recorder._install_proxy()  # noqa: SLF001 - Alembic's way to say what `op` is.
    try:
        function()
    except Exception as exc:  # noqa: BLE001 - A migration may raise anything.
        recording.failure = exc
    finally:
        recorder._remove_proxy()  # noqa: SLF001 - As above.
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
    def _setups(self) -> Any:  # type: ignore[override]  # Nobody writes it.
        """What `op` takes from here: the same as from Operations, which Alembic asks for by the very class."""
        return {_Recorder: Operations._setups[Operations]}  # noqa: SLF001 - Ours, as a subclass.

    def invoke(self, operation: MigrateOperation) -> Any:
        self._recording.steps.append(Step(operation, self._context.in_transaction))
        return operation.to_table(self._context) if isinstance(operation, CreateTableOp) else None

    @contextmanager
    def batch_alter_table(self, table_name: str, schema: str | None = None, **_: Any) -> Iterator[BatchOperations]:  # type: ignore[override]  # The others say how SQLite copies.
        yield _Batch(self, table_name, schema)

    def get_bind(self) -> Any:
        return _Nobody(self)


class _Batch(BatchOperations):
    def __init__(self, recorder: _Recorder, table: str, schema: str | None) -> None:
        impl = BatchOperationsImpl(recorder, table, schema, "never", None, (), {}, (), {}, None, None)  # type: ignore[no-untyped-call]  # Alembic's.
        super().__init__(recorder.migration_context, impl=impl)
        self._recorder = recorder

    def invoke(self, operation: MigrateOperation) -> Any:
        return self._recorder.invoke(operation)


class _Nobody:
    """A connection that finds no rows: statements are noted as if `op.execute` had been given them."""

    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder
        self.dialect = recorder.migration_context.dialect

    def execute(self, statement: Any, *_: Any, **__: Any) -> "_Nobody":
        self._recorder.invoke(ExecuteSQLOp(statement))
        return self

    scalar = scalars = exec_driver_sql = execute

    def fetchall(self) -> list[Any]:
        return []

    all = mappings = fetchall

    def __iter__(self) -> Iterator[Any]:
        return iter(())
