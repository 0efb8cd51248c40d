"""What a process pays before it serves: imports, and finding that the database is at head."""

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.config import Config
from measure import Ratio, Seconds, interleave, ratios

from appkit.repository.database import Database
from appkit.repository.migrations import Migrations

IMPORTS = {
    "SQLAlchemy + FastAPI": "import sqlalchemy.ext.asyncio, fastapi",
    "appkit": (
        "from appkit import BaseTableModel, CRUDService, CursorPage, Database, DbSession, Page, ReadSession, Repository"
    ),
    "appkit, all of it": "from appkit import AppKit; AppKit().app",
    "Advanced Alchemy": "import advanced_alchemy.extensions.fastapi",
    "FastCRUD": "import fastcrud",
}


def imports(rounds: int) -> list[Ratio]:
    """Processor time of a Python that imports, beside one that imports what all of them stand on."""
    nothing, *_ = [min(_import("pass") for _ in range(rounds))]
    seconds: Seconds = {name: [] for name in IMPORTS}
    for _ in range(rounds):
        for name, statement in IMPORTS.items():
            seconds[name].append(_import(statement) - nothing)
    base = "SQLAlchemy + FastAPI"
    others = [(name, base, 1.20 if name == "appkit" else None) for name in IMPORTS if name != base]
    return ratios("import", "", seconds, *others)


def _import(statement: str) -> float:
    with TemporaryDirectory() as directory:  # An app keeps its secret where it runs.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", statement], check=True, cwd=directory, env=os.environ)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def upgrades(kind: str, url: str, rounds: int) -> list[Ratio]:
    """At head already: ours, and Alembic's with the environment that `alembic init -t async` writes."""
    with TemporaryDirectory() as directory:
        migrations = Path(directory) / "migrations"
        config = Config(Path(directory) / "alembic.ini")
        config.print_stdout = lambda *_: None
        await asyncio.to_thread(command.init, config, str(migrations), "async")
        config = Config(Path(directory) / "alembic.ini")
        config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        config.attributes["configure_logger"] = False
        await asyncio.to_thread(command.revision, config, "First")
        await asyncio.to_thread(command.upgrade, config, "head")

        async def ours() -> None:
            database = Database(url)  # As at the start of a process: no connection is open yet.
            try:
                outcome = await Migrations(database, migrations / "versions").upgrade()
            finally:
                await database.dispose()
            if outcome != "current":
                raise RuntimeError(f"This database was to be at head, and upgrade() said {outcome!r}.")

        async def alembic() -> None:
            await asyncio.to_thread(command.upgrade, config, "head")

        seconds = await interleave({"appkit": ours, "Alembic": alembic}, rounds=rounds)
    return ratios("upgrade at head", kind, seconds, ("appkit", "Alembic", 0.70))
