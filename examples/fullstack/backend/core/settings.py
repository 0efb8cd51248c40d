"""What the desk reads from its environment: appkit's settings, some with other defaults."""

from pathlib import Path

from appkit import Settings
from appkit.core.settings import DatabaseSettings, FrontendSettings

BACKEND = Path(__file__).resolve().parents[1]
DIST = BACKEND.parent / "frontend" / "dist"


class DeskSettings(Settings):
    """The desk's settings: run from anywhere, it finds its migrations and, once they are built, its pages."""

    app_name: str = "Pilcrow"
    database: DatabaseSettings = DatabaseSettings(migrations=BACKEND / "repository" / "migrations" / "versions")
    frontend: FrontendSettings = FrontendSettings(dist=DIST if DIST.is_dir() else None)
