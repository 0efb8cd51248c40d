"""An environment without variables of appkit."""

from pathlib import Path

import pytest

from appkit.core.environment import variables
from appkit.core.settings import Settings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory, and an environment without the variables of the settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(Settings.model_config, "secrets_dir", tmp_path / "secrets")
    for variable in variables(Settings):
        monkeypatch.delenv(variable.name, raising=False)
    return tmp_path
