"""The glossary's refused phrases stay out of the package and of the documentation."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "explanation" / "glossary.md"
ALLOWED: dict[tuple[str, str], str] = {}
"""Legitimate uses: (file, refused phrase) and the reason."""


def rows(page: str) -> list[list[str]]:
    """The cells of the glossary's rows: term, meaning, not, refused."""
    lines = [line.strip("|") for line in page.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [row for row in cells if row[0] != "Term" and not row[0].startswith("---")]


def refused_phrases(page: str) -> list[tuple[str, str]]:
    """Each refused phrase, and the term to use in its place."""
    return [(phrase, row[0]) for row in rows(page) for phrase in re.findall(r"`([^`]+)`", row[3])]


def split_names(text: str) -> str:
    """Separate the words of names by spaces: snake_case, camelCase and CapWords. Lines keep their numbers."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", " ", text)


def pattern(phrase: str) -> re.Pattern[str]:
    """A pattern for whole words. The phrase may be wrapped onto a second line, of a comment too."""
    words = r"[\s#-]+".join(map(re.escape, split_names(phrase).lower().split()))
    return re.compile(rf"(?<![^\W_]){words}(?![^\W_])")


PHRASES = dict(refused_phrases(GLOSSARY.read_text(encoding="utf-8")))
PATTERNS = {phrase: pattern(phrase) for phrase in PHRASES}


def occurrences(text: str) -> Iterator[tuple[int, str]]:
    """The line and the phrase of each refused phrase in a text."""
    words = split_names(text).lower()
    for phrase, compiled in PATTERNS.items():
        if split_names(phrase).lower().split()[0] not in words:
            continue  # Much cheaper than the pattern.
        for match in compiled.finditer(words):
            yield words.count("\n", 0, match.start()) + 1, phrase


def sources() -> Iterator[Path]:
    """The files that the glossary binds."""
    package, docs = ROOT / "src" / "appkit", ROOT / "docs"
    yield from chain(package.rglob("*.py"), package.rglob("*.jinja"), docs.rglob("*.md"), docs.rglob("*.py"))
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "mkdocs.yml"))


def test_glossary_refuses_each_phrase_in_one_row():
    phrases = [phrase.lower() for phrase, _ in refused_phrases(GLOSSARY.read_text(encoding="utf-8"))]
    assert len(phrases) > 50
    assert len(phrases) == len(set(phrases))


def test_glossary_gives_each_term_one_row_with_a_meaning():
    found = rows(GLOSSARY.read_text(encoding="utf-8"))
    assert {len(row) for row in found} == {4}
    assert all(row[0] and row[1].endswith(".") for row in found)
    assert len({row[0] for row in found}) == len(found)


@pytest.mark.parametrize(
    "text",
    ["call off", "Call off", "call_off", "CallOff", "callOff()", "task_call_off_now", "call-off", "# call\n    # off"],
)
def test_refused_phrase_is_found_in_prose_and_in_names(text: str):
    assert list(occurrences(text)) == [(1, "call off")]


@pytest.mark.parametrize("text", ["callback off", "recall offers", "call. Off", "newsletter", "pulsed"])
def test_other_words_are_not_refused(text: str):
    assert [phrase for _, phrase in occurrences(text)] == []


def test_refused_phrases_do_not_come_back():
    found = [
        f"{name}:{line}: say {PHRASES[phrase]!r}, not {phrase!r}"
        for path in sorted(sources())
        if path != GLOSSARY
        for name in [path.relative_to(ROOT).as_posix()]
        for line, phrase in sorted(occurrences(path.read_text(encoding="utf-8")))
        if (name, phrase) not in ALLOWED
    ]
    assert not found, "\n".join(found)


def test_allowed_uses_still_exist():
    for name, phrase in ALLOWED:
        assert phrase in {found for _, found in occurrences((ROOT / name).read_text(encoding="utf-8"))}, (name, phrase)
