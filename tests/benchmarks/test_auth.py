"""The benchmark runs and reports every measurement. No test judges the results."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_auth_benchmark_measures_everything_it_promises(tmp_path: Path):
    if not (ROOT / ".nox" / "fastapi-users").exists():
        pytest.skip("fastapi-users has no environment here: nox -s bench -- auth makes one.")
    figures = tmp_path / "figures.json"
    sizes = ("--rounds=1", "--seconds=0.5", "--times=10", "--crowd=6")
    command = [sys.executable, str(ROOT / "benchmarks" / "auth.py"), *sizes, f"--json={figures}"]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    found = json.loads(figures.read_text())
    promised = [(each["what"], each["target"]) for each in found if each["target"] is not None]
    assert promised == [
        ("ping p99, 4 signing in", 1.2),
        ("ping p99, 4 signing in", 0.2),
        ("sign-in", pytest.approx(1 / 0.95)),
        ("current user", pytest.approx(1 / 1.2)),
        ("current user, theirs irrevocable", pytest.approx(1 / 1.2)),
        ("appkit's answer", 1.1),
        ("appkit's answer", 1.1),
        ("6 sign in at once", 1.0),
        ("6 sign in at once", 1.0),
    ]
    assert all(each["ratio"] > 0 for each in found)
