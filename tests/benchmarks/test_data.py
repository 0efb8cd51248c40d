"""The benchmark runs and reports every measurement. No test judges the results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import URL

PEERS = "The libraries that appkit is compared with are not installed: nox -s bench has them."


def test_benchmark_measures_every_part_on_both_databases(request: pytest.FixtureRequest, tmp_path: Path):
    for peer in ("advanced_alchemy", "fastcrud"):
        pytest.importorskip(peer, reason=PEERS)
    server: URL = request.getfixturevalue("postgres_server")
    environment = {**os.environ, "APPKIT_TEST_POSTGRES_URL": server.render_as_string(hide_password=False)}
    program = Path(__file__).parents[2] / "benchmarks" / "data.py"
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(program), "--quick", "--rows=50", f"--json={figures}"]

    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    found = json.loads(figures.read_text())
    parts = {"get,", "create", "get", "HTTP", "page", "page,", "create_many,", "upgrade"}
    for database in ("postgresql", "sqlite"):
        assert {each["what"].split()[0] for each in found if each["database"] == database} == parts
    assert {each["measured"] for each in found if each["what"] == "import"} >= {"appkit", "FastCRUD"}
    assert all(each["ratio"] > 0 for each in found)
    assert {each["verdict"] for each in found if each["target"] is None} == {""}
    assert ended.stdout.count("| ok") + ended.stdout.count("| over") == sum(
        each["target"] is not None for each in found
    )
