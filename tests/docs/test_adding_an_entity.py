"""The seven steps of adding an entity, in a copy of the example."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = ROOT / "docs" / "snippets" / "entity"


def run(folder: Path, *command: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("APPKIT", "COV", "PYTEST"))}
    path = os.pathsep.join([str(folder / "backend"), *filter(None, [kept.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=kept | {"PYTHONPATH": path},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_seven_steps_add_an_entity(tmp_path):
    pytest.importorskip("fpdf", reason="The example needs more than appkit; `nox -s example` has it.")
    desk = tmp_path / "desk"
    ignored = shutil.ignore_patterns("frontend", "e2e", "fuzz", "__pycache__", "*.db*", ".*_cache")
    shutil.copytree(ROOT / "examples" / "fullstack", desk, ignore=ignored)
    backend = desk / "backend"

    models = backend / "repository" / "models.py"
    before = models.read_text()
    with_import = re.sub(r"(from sqlalchemy import .*), func", r"\1, UniqueConstraint, func", before)
    assert with_import != before
    models.write_text(f"{with_import}\n\n{(STEPS / 'models.py').read_text()}")
    shutil.copy(STEPS / "service.py", backend / "service" / "applause.py")
    schemas = backend / "api" / "schemas.py"
    schemas.write_text(f"{schemas.read_text()}\n\n{(STEPS / 'schemas.py').read_text()}")
    shutil.copy(STEPS / "routes.py", backend / "api" / "routes" / "applause.py")
    main = backend / "main.py"
    wired = main.read_text().replace("import comments, exports", "import applause, comments, exports")
    main.write_text(wired.replace("comments.router,", "comments.router, applause.router,"))
    shutil.copy(STEPS / "test_applause.py", desk / "tests")

    run(backend, "appkit", "db", "revision", "-m", "Let readers applaud")
    run(backend, "appkit", "db", "check")
    run(backend, "appkit", "db", "lint")
    assert "2 passed" in run(
        desk, "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "tests/test_applause.py"
    )
    run(desk, "ruff", "check")
    assert "/api/posts/{post_id}/applause" in run(backend, "appkit", "routes")
