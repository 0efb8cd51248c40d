"""The benchmark runs; how much plugins cost, no test decides."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_benchmark_of_plugins_measures_each_request(tmp_path: Path):
    program = Path(__file__).parents[2] / "benchmarks" / "plugins.py"
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(program), "--rounds=5", f"--json={figures}"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(figures.read_text())
    assert [each["what"] for each in found] == ["GET /api/plain", "GET /api/session", "GET /api/user"]
    assert {each["verdict"] for each in found} <= {"ok", "over"}
