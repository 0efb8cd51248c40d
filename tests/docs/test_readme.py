"""The app on the front page: the same everywhere, and it does what the page says."""

import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SNIPPET = ROOT / "docs" / "snippets" / "bookmarks.py"
ACCOUNT = {"email": "ada@example.com", "password": "correct horse battery"}


def test_readme_shows_the_snippet():
    first = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert first is not None
    assert first[1] == SNIPPET.read_text()


def test_readme_names_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert "pip install nox && nox -s demo" in text
    assert "pip install nox && nox -s tests" in text


@pytest.mark.slow
def test_readme_app_does_what_the_front_page_says(folder, serve):
    """Sign up, keep a page, be told that it is kept already, and find its title filled in."""
    directory = folder("bookmarks")
    with serve(directory, "bookmarks:app") as browser:
        assert browser.post("/api/bookmarks", json={"url": "https://example.com"}).status_code == 401
        assert browser.post("/api/auth/signup", json=ACCOUNT).status_code == 201

        added = browser.post("/api/bookmarks", json={"url": "https://example.com"})
        assert (added.status_code, added.json()) == (201, {"url": "https://example.com"})
        assert title_within(directory, seconds=60) == "fetched"

        again = browser.post("/api/bookmarks", json={"url": "https://example.com"})
        assert again.status_code == 409
        assert again.headers["content-type"] == "application/problem+json"
        problem = again.json()
        assert problem["internal_code"] == 40901
        assert problem["detail"] == "You already keep this page."
        assert problem["request_id"] == again.headers["x-request-id"]


@pytest.mark.slow
def test_readme_app_finishes_a_task_that_a_kill_interrupted(folder, environment, python):
    """What was committed is run by whoever comes next, here by `appkit worker`."""
    directory = folder("bookmarks")
    python(
        directory,
        "-c",
        "import asyncio, os, bookmarks\n"
        "from appkit import UserService\n"
        "async def main():\n"
        "    async with bookmarks.kit.lifespan(work=False):\n"
        "        async with bookmarks.kit.session() as db:\n"
        "            user = await UserService(db).create('ada@example.com', 'correct horse battery')\n"
        "            await bookmarks.BookmarkService(db).add(user.id, 'https://example.com')\n"
        "        os._exit(0)\n"
        "asyncio.run(main())\n",
    )
    assert title_within(directory, seconds=0) is None
    worker = subprocess.Popen(
        [sys.executable, "-m", "appkit", "worker", "bookmarks.py"],
        cwd=directory,
        env=environment | {"ENVIRONMENT": "development"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert title_within(directory, seconds=60) == "fetched"
    finally:
        worker.terminate()
        worker.wait(timeout=30)


def test_readme_app_passes_strict_type_checking(tmp_path: Path):
    api = pytest.importorskip("mypy.api", reason="mypy is installed in the session for types")
    out, err, code = api.run(
        ["--strict", "--cache-dir", str(ROOT / ".mypy_cache"), "--config-file", "", "--no-incremental", str(SNIPPET)]
    )
    assert code == 0, out + err


def title_within(directory: Path, *, seconds: float) -> str | None:
    """The title of the only bookmark, as soon as there is one."""
    deadline = time.monotonic() + seconds
    while True:
        with sqlite3.connect(directory / "app.db") as connection:
            (title,) = connection.execute("SELECT title FROM bookmark").fetchone()
        connection.close()
        if title is not None or time.monotonic() >= deadline:
            return str(title) if title is not None else None
        time.sleep(0.05)
