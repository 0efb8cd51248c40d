"""The example is for reading: it stays small, and it is laid out as the architecture page says."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

BACKEND = Path(__file__).parents[2] / "examples" / "fullstack" / "backend"
LAYERS = {"api", "core", "domain", "repository", "service", "tasks"}
MOST_LINES = 700


def test_example_has_the_five_layers_and_tasks():
    packages = {path.parent.name for path in BACKEND.glob("*/__init__.py")}
    assert packages == LAYERS | {"seed"}


def test_example_stays_under_700_lines_of_code():
    """Without migrations and demo data, which nobody reads to learn from."""
    files = [path for path in BACKEND.rglob("*.py") if not {"versions", "seed"} & {*path.parts}]
    counted = {str(path.relative_to(BACKEND)): len(set(lines_of_code(path))) for path in files}
    assert sum(counted.values()) < MOST_LINES, counted
    assert max(counted.values()) < 150, counted


def test_example_documents_everything():
    for path in BACKEND.rglob("*.py"):
        if "versions" not in path.parts:
            assert ast.get_docstring(ast.parse(path.read_text())), path


def lines_of_code(path: Path) -> Iterator[int]:
    """The lines that are neither empty, nor a comment, nor part of a docstring."""
    text = path.read_text()
    prose = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.end_lineno is not None:
            prose |= set(range(node.lineno, node.end_lineno + 1))
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            yield from set(range(token.start[0], token.end[0] + 1)) - prose
