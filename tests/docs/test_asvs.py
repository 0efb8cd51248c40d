"""The ASVS checklist has every requirement, and every test that it names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The requirements of levels 1 and 2 in version 5.0.0.
NUMBERS = {
    "3.3": range(1, 5),
    "3.4": range(1, 7),
    "3.5": range(1, 6),
    "6.1": range(1, 4),
    "6.2": range(1, 13),
    "6.3": range(1, 5),
    "6.4": range(1, 5),
    "6.5": range(1, 6),
    "6.6": range(1, 4),
    "6.8": range(1, 5),
    "7.1": range(1, 4),
    "7.2": range(1, 5),
    "7.3": range(1, 3),
    "7.4": range(1, 6),
    "7.5": range(1, 3),
    "7.6": range(1, 3),
    "9.1": range(1, 4),
    "9.2": range(1, 5),
}
PAGE = (ROOT / "docs" / "reference" / "asvs.md").read_text()
LINES = dict(re.findall(r"^\| (\d\.\d\.\d+) \| .* \| (.*) \|$", PAGE, re.MULTILINE))
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


@cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_checklist_has_every_requirement():
    assert list(LINES) == [f"{section}.{number}" for section, numbers in NUMBERS.items() for number in numbers]


@pytest.mark.parametrize("number", LINES)
def test_checklist_names_tests_that_exist_or_says_why_there_are_none(number: str):
    kept = LINES[number]
    named = TEST.findall(kept)
    assert named or "**Yours**" in kept or "**By absence**" in kept or "security.md#" in kept
    assert kept.count("::test_") == len(named)
    for path, name in named:
        assert name in names_in(path), f"{path} has no {name}"
