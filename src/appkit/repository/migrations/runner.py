"""Migrations: upgrade, downgrade, write and check an app's migrations with Alembic."""

import logging
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal, TypeVar

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import CheckConstraint, Connection, MetaData, PrimaryKeyConstraint, Table, inspect
from sqlalchemy.dialects.postgresql.base import PGInspector

from appkit.exceptions import AppKitError, ServiceUnavailableException
from appkit.repository.database import Database
from appkit.repository.engines import scratch_database
from appkit.repository.migrations.locking import run_locked
from appkit.repository.sqlalchemy_internals import is_conditional

Outcome = Literal["current", "waited", "migrated", "created"]
"""`current`: nothing to do. `waited`: another process migrated. `migrated` or `created`: this process did the work."""
T = TypeVar("T")

_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Migrations:
    """An app's migrations: one history in one directory, for the tables of the app, of appkit and of plugins.

    If several processes migrate at the same time, one process does the work and the others wait.

    Args:
        database: The app's database.
        directory: The directory of the migrations. `revision()` creates it.
        production: Refuse to create tables without migrations.
        wait: Seconds to wait for another process that migrates, and for tables that other sessions have locked.
        lock_timeout: Seconds that a migration waits for the lock of a table on PostgreSQL. While it waits,
            other queries of the table wait too. After this time, the migration is rolled back and retried.
    """

    database: Database
    directory: Path
    _: KW_ONLY
    production: bool = False
    wait: float = 300.0
    lock_timeout: float = 1.0

    async def upgrade(self, revision: str = "head") -> Outcome:
        """Apply the pending migrations. In an app without migrations, create the missing tables.

        Raises:
            AppKitError: When there are no migrations in production, when the database was created without migrations
                and differs from the models, or when Alembic fails.
        """
        if not self._exist():
            return await self._create()
        head = self._head() if revision == "head" else None
        if head and await self.current() == head:
            return "current"
        done = await run_locked(self.database, self.wait, self._migrate, revision, head)
        if done is None:
            return "waited"
        _logger.info("migrated", extra={"from_revision": done[0], "to_revision": done[1]})
        return "migrated"

    async def downgrade(self, revision: str) -> None:
        """Undo all migrations after `revision`: an id, `-1` to undo the latest migration, or `base` to undo all."""
        await run_locked(self.database, self.wait, self._alembic, command.downgrade, revision)

    async def reset(self) -> Outcome:
        """Drop all tables, including those of other programs in the same database, and migrate.

        Raises:
            AppKitError: In production.
        """
        if self.production:
            raise AppKitError(
                "This is production (ENVIRONMENT), where reset() refuses to drop the tables. Nothing was changed."
            )
        await run_locked(self.database, self.wait, self._drop)
        return await self.upgrade()

    async def revision(self, message: str) -> Path | None:
        """Write a migration with the differences between the migrations and the models. None if there are none.

        Alembic applies all migrations to a temporary database, and compares this database with the models.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        async with scratch_database(self.database.url) as connection:
            await connection.run_sync(self._alembic, command.upgrade, "head")
            script = await connection.run_sync(self._alembic, command.revision, message, autogenerate=True)
        return Path(script.path) if script else None

    async def current(self) -> str | None:
        """The database's revision."""
        return await self._read(_revision)

    async def pending(self) -> bool:
        """Whether `upgrade()` would change the database."""
        return await self.current() != self._head() if self._exist() else bool(await self._read(self._missing))

    async def check(self) -> list[str]:
        """The differences between the models and the migrations, and constraints that migrations can't handle."""
        if len(heads := self._scripts().get_heads()) > 1:
            return [
                f"no single last migration: {', '.join(sorted(heads))}. Set down_revision so that one follows the other"
            ]
        if problems := list(_constraint_problems(self.database.metadata)):
            return problems
        async with scratch_database(self.database.url) as connection:
            await connection.run_sync(self._alembic, command.upgrade, "head")
            return await connection.run_sync(self._differences)

    async def history(self) -> list[dict[str, Any]]:
        """All migrations. The latest one is the first."""
        return [{"revision": s.revision, "parent": s.down_revision, "message": s.doc} for s in self.scripts()]

    def scripts(self, revisions: str = "base:heads") -> list[Script]:
        """Alembic's objects for a range of migrations, the latest first. `a1:b2` excludes `a1` and includes `b2`."""
        lower, _, upper = revisions.rpartition(":")
        with _alembic_errors():
            found = self._scripts().iterate_revisions(upper or "heads", lower or "base") if self._exist() else ()
            return list(found)

    def sql(self, revisions: str = "base:head") -> str:
        """The SQL of a range of migrations. This method doesn't use the database.

        Raises:
            AppKitError: On SQLite, when a migration alters a table, because Alembic would have to read the table.
        """
        config = self._config()
        config.output_buffer = StringIO()
        with _alembic_errors():
            command.upgrade(config, revisions, sql=True)
        return config.output_buffer.getvalue()

    def _exist(self) -> bool:
        return any(self.directory.glob("*.py"))

    def _head(self) -> str | None:
        with _alembic_errors():
            return self._scripts().get_current_head()

    def _scripts(self) -> ScriptDirectory:
        return ScriptDirectory.from_config(self._config())

    async def _read(self, question: Callable[[Connection], T]) -> T:
        try:
            async with self.database.readers.connect() as connection:
                return await connection.run_sync(question)
        except ServiceUnavailableException as exc:
            raise AppKitError(f"Can't connect to {self.database.url!r}: {exc.__cause__}") from exc

    async def _create(self) -> Outcome:
        if self.production:
            raise AppKitError(
                f"There are no migrations in {self.directory.absolute()}. "
                'Write the first one, with `appkit db revision -m "First tables"`, and deploy it with the app.'
            )
        if not await self._read(self._missing):
            return "current"
        missing = await run_locked(self.database, self.wait, self._create_missing)
        if not missing:
            return "waited"
        _logger.info("migrated", extra={"tables": missing})
        return "created"

    def _create_missing(self, connection: Connection) -> list[str]:
        if missing := self._missing(connection):
            self.database.metadata.create_all(connection)
        return missing

    def _missing(self, connection: Connection) -> list[str]:
        """The tables that don't exist in the database."""
        tables = self.database.metadata.sorted_tables
        existing: dict[Any, Any] = {}
        for schema in {table.schema for table in tables}:
            existing |= inspect(connection).get_multi_columns(schema=schema)
        for table in tables:
            columns = existing.get((table.schema, table.name))
            lacking = [] if columns is None else set(table.columns.keys()) - {column["name"] for column in columns}
            if lacking:
                raise AppKitError(
                    f"The table {table.name} lacks {', '.join(sorted(lacking))}. This database was created without "
                    "migrations, so its tables aren't altered: delete it, or add the missing columns by hand."
                )
        return [table.name for table in tables if (table.schema, table.name) not in existing]

    def _migrate(self, connection: Connection, revision: str, head: str | None) -> tuple[str | None, str | None] | None:
        before = _revision(connection)
        if head and before == head:
            return None
        if before is None and set(inspect(connection).get_table_names()) & set(self.database.metadata.tables):
            self._adopt(connection)
        else:
            if connection.dialect.name != "sqlite":
                connection.rollback()  # Alembic begins its own transaction, which `autocommit_block()` can end.
            self._alembic(connection, command.upgrade, revision)
        return before, _revision(connection)

    def _drop(self, connection: Connection) -> None:
        inspector, preparer = inspect(connection), connection.dialect.identifier_preparer
        cascade = " CASCADE" if isinstance(inspector, PGInspector) else ""
        for schema in {None, *(table.schema for table in self.database.metadata.tables.values())}:
            for name in inspector.get_table_names(schema):
                table = preparer.format_table(Table(name, MetaData(), schema=schema))
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}{cascade}")
            for enum in inspector.get_enums(schema) if isinstance(inspector, PGInspector) else ():
                connection.exec_driver_sql(f"DROP TYPE {preparer.quote(enum['schema'])}.{preparer.quote(enum['name'])}")

    def _adopt(self, connection: Connection) -> None:
        """Mark a database that was created without migrations as migrated, if the tables match the models."""
        self.database.metadata.create_all(connection)
        if differences := self._differences(connection, others=False):
            raise AppKitError(
                f"This database was created without migrations and differs from the models: {'; '.join(differences)}. "
                "Alter it by hand until it matches, or, in development, delete it."
            )
        self._alembic(connection, command.stamp, "head")

    def _differences(self, connection: Connection, *, others: bool = True) -> list[str]:
        names = self.database.metadata.tables
        options = {**_OPTIONS, "include_name": lambda name, kind, _: others or kind != "table" or name in names}
        context = MigrationContext.configure(connection, opts=options)
        with self._without_index_warnings():
            return [_describe(difference) for difference in compare_metadata(context, self.database.metadata)]

    def _alembic(self, connection: Connection, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        with _alembic_errors(), self._without_index_warnings():
            return function(self._config(connection), *args, **options)

    @contextmanager
    def _without_index_warnings(self) -> Iterator[None]:
        """Suppress a warning of Alembic: it can't compare indexes that only some databases have."""
        indexes = (index for table in self.database.metadata.tables.values() for index in table.indexes)
        with warnings.catch_warnings():
            for name in (index.name for index in indexes if is_conditional(index)):
                warnings.filterwarnings("ignore", f"autogenerate skipping .* index '{name}'")
            yield

    def _config(self, connection: Connection | None = None) -> Config:
        config = Config(cmd_opts=Namespace(quiet=True))
        for name, value in {
            "script_location": "appkit.repository:migrations",
            "version_locations": str(self.directory.absolute()),
            "path_separator": "newline",
            "file_template": "%(year)d_%(month).2d_%(day).2d_%(rev)s_%(slug)s",
        }.items():
            config.set_main_option(name, value.replace("%", "%%"))
        options: dict[str, Any] = {**_OPTIONS, "connection": connection, "target_metadata": self.database.metadata}
        if connection is None:
            options |= {"dialect_name": self.database.url.get_backend_name(), "literal_binds": True}
        config.attributes.update(options=options, lock_timeout=self.lock_timeout)
        return config


# The second plugin compares CHECK constraints by name. It is not one of Alembic's defaults.
_OPTIONS = {"autogenerate_plugins": ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"]}


async def migrate_at_start(
    database: Database, directory: Path, mode: Literal["upgrade", "check", "off"], *, production: bool
) -> None:
    """Migrate, or check for pending migrations, as `DATABASE_MIGRATE` says.

    Raises:
        AppKitError: When migrations are pending and the mode is `check`, or when `Migrations.upgrade` raises it.
    """
    migrations = Migrations(database, directory, production=production)
    if mode == "upgrade":
        await migrations.upgrade()
    elif mode == "check" and await migrations.pending():
        raise AppKitError(
            "The database is behind: migrations are pending. Run `appkit db upgrade`, or set DATABASE_MIGRATE=upgrade."
        )


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _describe(difference: Any) -> str:
    """A difference in words. `("add_column", None, "bookmark", Column("title"))` is `add column bookmark.title`."""
    kind, *parts = difference[0] if isinstance(difference, list) else difference
    names = [part if isinstance(part, str) else part.name for part in parts[:3] if part is not None]
    return f"{kind.replace('_', ' ')} {'.'.join(map(str, names))}"


@contextmanager
def _alembic_errors() -> Iterator[None]:
    try:
        yield
    except (CommandError, RevisionError) as exc:
        raise AppKitError(str(exc)) from exc


def _constraint_problems(metadata: MetaData) -> Iterator[str]:
    """Constraints that migrations would lose, or can't drop because they have no name."""
    for table in metadata.sorted_tables:
        of_columns = [(column, constraint) for column in table.columns for constraint in column.constraints]
        for column, constraint in of_columns:
            if isinstance(constraint, CheckConstraint):
                yield f"move the CHECK of {column} to its table, because migrations lose the CHECK of a column"
        for constraint in table.constraints - {constraint for _, constraint in of_columns}:
            # The name is a string only if the naming convention could make a name.
            if not isinstance(constraint.name, str) and not isinstance(constraint, PrimaryKeyConstraint):
                kind = type(constraint).__name__.removesuffix("Constraint")
                about = ", ".join(column.name for column in getattr(constraint, "columns", ()))
                yield f"name the {kind} constraint of {table.fullname}{f' ({about})' if about else ''}"
