"""`appkit errors`: list the errors of an app, or export their codes to TypeScript."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appkit.cli.discovery import find_kit
from appkit.cli.output import AsJson, Target, fail, show

if TYPE_CHECKING:
    from appkit.exceptions import APIException


def errors(
    target: Target = None,
    *,
    as_json: AsJson = False,
    ts: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the codes to this TypeScript file.")] = None,
    check: Annotated[bool, typer.Option("--check", help="With --ts: fail when the file is out of date.")] = False,
) -> None:
    """List the errors of the app, with code, status, name and message."""
    from appkit.exceptions import APIException

    find_kit(target)
    classes = list(APIException.registry().values())
    if ts is None:
        rows = [
            {"code": cls.internal_code, "status": cls.status_code, "name": cls.__name__, "detail": cls.detail}
            for cls in classes
        ]
        show(rows, as_json=as_json)
        return
    text = typescript(classes)
    if not check:
        ts.write_text(text, encoding="utf-8")
    elif not ts.is_file() or ts.read_text(encoding="utf-8") != text:
        raise fail(f"{ts} is out of date. Run `appkit errors --ts {ts}`.")


def typescript(classes: "list[type[APIException]]") -> str:
    """Create a TypeScript module with the error codes. The name of a code is the name of the exception class."""
    lines = ["// Made by `appkit errors --ts`: don't edit, run it again.", "", "export const ErrorCode = {"]
    for cls in classes:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__.removesuffix("Exception"))
        when = (cls.__doc__ or cls.detail).strip().splitlines()[0]
        lines += [f"  /** {cls.status_code}: {when} */", f"  {words.upper()}: {cls.internal_code},"]
    lines += ["} as const", "", "export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode]"]
    return "\n".join(lines) + "\n"
