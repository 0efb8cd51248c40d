"""The finished tutorial program and its tests, run as readers do."""

import shutil
import tomllib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "docs" / "snippets" / "tutorial"


def project() -> str:
    """The pyproject.toml of the chapter on tests."""
    page = (ROOT / "docs" / "tutorial" / "6-tests.md").read_text()
    return page.partition("```toml\n")[2].partition("```")[0]


@pytest.mark.slow
def test_tutorial_passes_its_own_tests(tmp_path, python):
    shutil.copytree(PROGRAM, tmp_path, dirs_exist_ok=True)
    (tmp_path / "pyproject.toml").write_text(project())
    assert "passed" in python(
        tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"
    )


def test_tutorial_names_the_kit_that_it_wrote():
    assert tomllib.loads(project())["tool"]["pytest"]["appkit_kit"] == "bookmarks:kit"


def test_tutorial_reads_titles_from_the_web_only(tmp_path, python):
    shutil.copy(PROGRAM / "bookmarks.py", tmp_path)
    (tmp_path / "page.html").write_text("<html><title lang=en>\n An example </title></html>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        urls = [f"http://127.0.0.1:{server.server_port}/page.html", (tmp_path / "page.html").as_uri()]
        printed = python(tmp_path, "-c", f"import bookmarks; print([*map(bookmarks.read_title, {urls})])")
        server.shutdown()
    assert printed.splitlines()[-1] == "['An example', None]"


def test_tutorial_passes_strict_type_checking():
    api = pytest.importorskip("mypy.api", reason="mypy is installed in the session for types")
    out, err, code = api.run(["--strict", "--config-file", "", "--no-incremental", str(PROGRAM / "bookmarks.py")])
    assert code == 0, out + err
