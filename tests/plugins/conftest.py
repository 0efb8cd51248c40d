"""What the tests of plugins share: installing one."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from appkit.plugins.manager import installed_plugins

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Install:
    """Install a package with a plugin, as pip would."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, source: str, *, package: str | None = None) -> None:
        package = package or f"installed_{name}"
        monkeypatch.delitem(sys.modules, package, raising=False)
        (tmp_path / f"{package}.py").write_text(source)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[appkit]\n{name} = {package}\n")
        installed_plugins.cache_clear()

    return install
