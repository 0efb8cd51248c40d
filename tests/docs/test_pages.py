"""Pages include tested code, and load nothing from other servers."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LONGEST = 5
INCLUDE = re.compile(r'^--8<-- "([^":]+)(?::(\d+):(\d+)|:([a-z_]+))?"$', re.MULTILINE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_page_types_no_long_python(path: Path):
    """Longer code is included from a file that a test runs."""
    for block in re.findall(r"```(?:py|python)[^\n]*\n(.*?)```", path.read_text(), re.DOTALL):
        lines = [line for line in block.splitlines() if line.strip()]
        assert len(lines) <= LONGEST, block


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_page_includes_files_and_lines_that_are_there(path: Path):
    """Line numbers get outdated: each range must start and end with code."""
    for name, first, last, section in INCLUDE.findall(path.read_text()):
        lines = (ROOT / name).read_text().splitlines()
        if section:
            assert f"# --8<-- [start:{section}]" in lines
            assert f"# --8<-- [end:{section}]" in lines
        if first:
            shown = lines[int(first) - 1 : int(last)]
            assert shown[0].strip()
            assert shown[-1].strip()
            assert int(last) == len(lines) or not lines[int(last)].strip()


def test_every_snippet_is_included_by_a_page():
    included = {"docs/snippets/test_bookmarks.py"}  # The reference includes parts of it.
    included |= {match[0] for page in PAGES for match in INCLUDE.findall(page.read_text())}
    snippets = {f"docs/snippets/{path.name}" for path in (ROOT / "docs" / "snippets").glob("*.py")}
    assert included >= snippets


def test_page_has_nothing_that_only_looks_like_an_include():
    """A formatter may change the include line, and the page would then show the line itself."""
    for page in PAGES:
        lines = [line for line in page.read_text().splitlines() if "docs/snippets/" in line]
        assert all(INCLUDE.fullmatch(line) for line in lines), page


def test_theme_asks_no_other_server_for_anything():
    config = (ROOT / "mkdocs.yml").read_text()
    assert re.search(r"^  font: false", config, re.MULTILINE)
    assert "inventories: []" in config
    assert "http" not in config.replace("https://fastapi-appkit.readthedocs.io/", "")
