"""Both type checkers agree with what the cases beside this file assert."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_mypy_agrees(path: Path):
    api = pytest.importorskip("mypy.api", reason="mypy is in the dependency group `types`")
    out, err, code = api.run(["--config-file", str(ROOT / "pyproject.toml"), str(path)])
    assert code == 0, out + err


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_pyright_agrees(path: Path):
    pytest.importorskip("pyright", reason="pyright is in the dependency group `types`")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
