"""What the desk reads from its environment: appkit's settings, with the desk's own places as defaults."""

from pathlib import Path

from appkit import Settings
from appkit.core.settings import DatabaseSettings, FrontendSettings

BACKEND = Path(__file__).resolve().parents[1]
DIST = BACKEND.parent / "frontend" / "dist"


class DeskDatabaseSettings(DatabaseSettings):
    """The database, whose migrations lie beside the models."""

    migrations: Path = BACKEND / "repository" / "migrations"


class DeskFrontendSettings(FrontendSettings):
    """The frontend, served from here once it is built."""

    dist: Path | None = DIST if DIST.is_dir() else None


class DeskSettings(Settings):
    """The desk's settings."""

    app_name: str = "Desk"
    database: DeskDatabaseSettings = DeskDatabaseSettings()
    frontend: DeskFrontendSettings = DeskFrontendSettings()
