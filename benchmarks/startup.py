"""Start-up time: imports, and `upgrade()` when the database is at head."""

import asyncio
import os
import resource
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.config import Config
from measure import Operation, Ratio, Seconds, interleave, ratios
from sqlalchemy import select

from appkit.repository.database import Database
from appkit.repository.migrations import Migrations

IMPORTS = {
    "SQLAlchemy + FastAPI": "import sqlalchemy.ext.asyncio, fastapi",
    "appkit": (
        "from appkit import BaseTableModel, CRUDService, CursorPage, Database, DbSession, Page, ReadSession, Repository"
    ),
    "appkit, the data layer alone": "from appkit import BaseTableModel, CRUDService, Database, Page, Repository",
    "appkit, a whole app": "from appkit import AppKit; AppKit().app",
    "Advanced Alchemy": "import advanced_alchemy.extensions.fastapi",
    "FastCRUD": "import fastcrud",
}


def imports(rounds: int) -> list[Ratio]:
    """CPU time of each import, beside importing SQLAlchemy and FastAPI, which all of them need."""
    base, *others = IMPORTS
    seconds: Seconds = {name: [] for name in IMPORTS}
    with TemporaryDirectory() as directory:
        python = _Python(Path(directory))
        for statement in IMPORTS.values():
            python.seconds(statement)  # Writes the bytecode.
        empty = min(python.seconds("pass") for _ in range(rounds))
        for _ in range(rounds):
            for name, statement in IMPORTS.items():
                seconds[name].append(python.seconds(statement) - empty)
    return ratios("import", "", seconds, *((name, base, 1.20 if name == "appkit" else None) for name in others))


class _Python:
    """Runs statements in a temporary directory, which also gets the bytecode and an app's secret."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(directory)}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def seconds(self, statement: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", statement], check=True, cwd=self.directory, env=self.environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def upgrades(kind: str, url: str, rounds: int) -> list[Ratio]:
    """From a new engine to the first query, when the database is at head.

    appkit checks the revision on a connection that the app then uses. Alembic, in the environment that `alembic init
    -t async` writes, opens one for itself. Both run in this process, so Alembic's imports don't count.
    """
    with TemporaryDirectory() as directory:
        migrations = Path(directory) / "migrations"
        config = await asyncio.to_thread(_initialise, migrations, url)

        async def serve(database: Database) -> None:
            try:
                async with database.read_session() as db:
                    await db.scalar(select(1))
            finally:
                await database.dispose()

        async def ours() -> None:
            database = Database(url)
            outcome = await Migrations(database, migrations / "versions").upgrade()
            await serve(database)
            if outcome != "current":
                raise RuntimeError(f"This database was to be at head, and upgrade() said {outcome!r}.")

        async def alembic() -> None:
            await asyncio.to_thread(command.upgrade, config, "head")
            await serve(Database(url))

        async def neither() -> None:
            await serve(Database(url))

        contenders: dict[str, Operation] = {"appkit": ours, "Alembic": alembic, "no migrations": neither}
        seconds = await interleave(contenders, rounds=rounds)
    targets = [("appkit", "Alembic", 0.70), ("appkit", "no migrations", None)]
    return ratios("upgrade at head + first query", kind, seconds, *targets)


def _initialise(migrations: Path, url: str) -> Config:
    """Create a history with one revision, and upgrade the database to it."""
    file = migrations.with_name("alembic.ini")
    config = Config(file)
    with redirect_stdout(StringIO()):  # Alembic prints the files that it writes.
        command.init(config, str(migrations), "async")
        config = Config(file)
        config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        command.revision(config, "First")
        command.upgrade(config, "head")
    return config
