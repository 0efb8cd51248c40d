"""Options and output that commands share: tables, JSON, findings and error messages."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any

import typer

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="[KIT]",
        help="The app: a file or a module, as in `bookmarks.py` or `bookmarks:kit`.  [default: the app in this folder]",
        show_default=False,
    ),
]
KitOption = Annotated[
    str | None,
    typer.Option(
        "--kit",
        "-k",
        metavar="KIT",
        help="The app, as in `bookmarks.py` or `bookmarks:kit`.  [default: the app in this folder]",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def show(
    rows: Sequence[Mapping[str, Any]], *, as_json: bool, red: Callable[[Mapping[str, Any]], bool] = lambda _: False
) -> None:
    """Print rows as JSON or as a table. In a table, a row is red if `red` returns true."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2, default=str))
    elif rows:
        cells = [[key.upper() for key in rows[0]], *([_text(value) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for line, row in zip(cells, [{}, *rows], strict=True):
            text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            typer.secho(text, fg="red" if row and red(row) else None)


def show_findings(findings: Sequence[Mapping[str, Any]]) -> None:
    """Print the findings of `appkit check`, grouped by the code of the check."""
    for code, group in groupby(findings, key=itemgetter("code")):
        found = list(group)
        typer.echo(f"{typer.style(code, fg='red')}  {found[0]['problem']}")
        for finding in found:
            typer.echo(f"    {finding['where']}")
        typer.echo(f"    {' '.join(filter(None, [found[0]['fix'], found[0]['url']]))}\n")
    count = len(findings)
    typer.echo(f"{count} {'finding' if count == 1 else 'findings'}." if count else "No problems found.")


def fail(message: str) -> typer.Exit:
    """Print an error message, and return the exception to raise."""
    typer.secho(message, fg="red", err=True)
    return typer.Exit(1)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
