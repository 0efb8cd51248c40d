"""The app's settings, read from the environment: appkit's, some with other defaults."""

from pathlib import Path

from appkit import Settings
from appkit.core.settings import DatabaseSettings, FrontendSettings

BACKEND = Path(__file__).resolve().parents[1]
DIST = BACKEND.parent / "frontend" / "dist"


class DeskSettings(Settings):
    """The app's settings. It finds its migrations and its built frontend from any working directory."""

    app_name: str = "Pilcrow"
    database: DatabaseSettings = DatabaseSettings(migrations=BACKEND / "repository" / "migrations" / "versions")
    frontend: FrontendSettings = FrontendSettings(dist=DIST if DIST.is_dir() else None)
