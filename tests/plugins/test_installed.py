"""Strangers' plugins: wheels in an environment, beside an app that knows nothing of them."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SNIPPETS = ROOT / "docs" / "snippets"

BROKEN = {
    "imports": "import there_is_no_such_package",
    "argument": "@hookimpl\ndef register_routers(setings):\n    return []",
    "misspelt": "@hookimpl\ndef register_router():\n    return []",
    "raises": "@hookimpl\ndef register_routers():\n    raise ValueError('a bug')",
    "starts": "@hookimpl\ndef lifespan():\n    raise ValueError('a bug')",
}

USE = """
import asyncio, json, logging
from httpx2 import ASGITransport, AsyncClient
from bookmarks import kit

async def main():
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with kit.lifespan(work=True), AsyncClient(
        transport=ASGITransport(kit.app), base_url="http://testserver", headers=headers
    ) as client:
        person = {"email": "ada@example.com", "password": "correct horse battery"}
        assert (await client.post("/api/auth/signup", json=person)).status_code == 201
        async with asyncio.timeout(30):
            while not any(entry.startswith("UserSignedUp(") for entry in (await client.get("/api/audit")).json()):
                await asyncio.sleep(0.05)
        ready = await client.get("/api/health/ready")
    print(json.dumps({"ready": [ready.status_code, ready.json()["failed_plugins"]]}))

asyncio.run(main())
"""

START_STRICTLY = """
import asyncio, json, sys
from appkit import AppKit, AppKitError, Settings

async def start(name, others):
    kit = AppKit(Settings(plugins={"strict": True, "disabled": others}))
    try:
        _ = kit.app
        async with kit.lifespan(work=False):
            return None
    except AppKitError as exc:
        return str(exc)

names = json.loads(sys.argv[1])
print(json.dumps({name: asyncio.run(start(name, [other for other in names if other != name])) for name in names}))
"""


def build_wheel(folder: Path, name: str, source: str) -> Path:
    """What any build backend makes of one module with an entry point."""
    module, info = f"plugin_{name}", f"plugin_{name}-1.0.dist-info"
    path = folder / f"{module}-1.0-py3-none-any.whl"
    files = {
        f"{module}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[appkit]\n{name} = {module}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in files.items():
            wheel.writestr(file, content)
    return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the stranger's plugin and broken ones, and, by its path, all that is here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", with_pip=True)
    wheels = [build_wheel(folder, "audit", (SNIPPETS / "appkit_audit.py").read_text())]
    for name, source in BROKEN.items():
        wheels.append(build_wheel(folder, name, f"from appkit import hookimpl\n\n{source}\n"))
    python = folder / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*pip, *map(str, wheels)], check=True, timeout=300)
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (site / "here.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT / 'src'}\n")
    return python


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Callable[..., Any]:
    """Run a program of that environment, in a folder with an app; what it prints is JSON."""
    shutil.copy(SNIPPETS / "bookmarks.py", tmp_path)

    def run(*arguments: str, **variables: str) -> Any:
        known = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        done = subprocess.run(
            [environment, *arguments],
            cwd=tmp_path,
            env={**known, **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        last = done.stdout.splitlines()[-1]
        return json.loads(last) if last.startswith("{") else last, done.stderr

    return run


@pytest.mark.slow
def test_strangers_plugin_is_live_beside_broken_ones_which_are_named(run) -> None:
    """Its route, its table and its hook; and the app works, whatever else is installed."""
    found, log = run("-c", USE)
    assert found["ready"] == [200, sorted(BROKEN)]
    for name in BROKEN:
        assert f"Plugin '{name}'" in log


@pytest.mark.slow
def test_strangers_table_is_in_the_next_migration(run, tmp_path: Path) -> None:
    run("-c", "from appkit.cli import main; main()", "db", "revision", "-m", "First tables", "--kit", "bookmarks.py")
    (revision,) = (tmp_path / "migrations").glob("*.py")
    assert "audit_entry" in revision.read_text()


@pytest.mark.slow
def test_broken_plugin_always_stops_a_strict_start_and_is_named(run) -> None:
    found, _ = run("-c", START_STRICTLY, json.dumps([*BROKEN, "audit"]))
    assert found.pop("audit") is None
    assert list(found) == list(BROKEN)
    for name, sentence in found.items():
        assert sentence.startswith(f"Plugin '{name}' "), sentence
    assert "Did you mean register_routers()?" in found["misspelt"]
    assert "'setings'" in found["argument"]
    assert "there_is_no_such_package" in found["imports"]


def test_strangers_plugin_is_as_small_as_the_page_says() -> None:
    lines = [line for line in (SNIPPETS / "appkit_audit.py").read_text().splitlines() if line.strip()]
    assert len(lines) < 25
    assert sys.version_info >= (3, 11)
