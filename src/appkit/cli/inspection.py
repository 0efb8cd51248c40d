"""Commands that inspect an app: `routes`, `errors`, `settings`, `plugins`, `openapi` and `secret`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appkit.cli.discovery import find_kit
from appkit.cli.output import AsJson, Target, fail, show

if TYPE_CHECKING:
    from appkit.core.settings import Settings
    from appkit.exceptions import APIException


def routes(target: Target = None, *, as_json: AsJson = False) -> None:
    """List the routes, with methods, path and function name."""
    from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts

    rows = [
        {"methods": sorted(route.methods or ["WEBSOCKET"]), "path": route.path, "name": route.name}
        for route in iter_route_contexts(find_kit(target).kit.app.routes)
        if isinstance(route.original_route, APIRoute | APIWebSocketRoute)
        and getattr(route.original_route, "include_in_schema", True)
    ]
    show(rows, as_json=as_json)


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


def settings(target: Target = None, *, as_json: AsJson = False) -> None:
    """List the environment variables that the app reads, with their values. Secrets are masked."""
    show(list(_settings(find_kit(target).kit.settings)), as_json=as_json)


def plugins(target: Target = None, *, as_json: AsJson = False) -> None:
    """List the plugins. If a plugin failed, show the reason."""
    kit = find_kit(target).kit
    _ = kit.app, kit.broker
    failed = {name: f"{type(exc).__name__}: {exc}" for name, exc in kit.plugins.failed.items()}
    names = dict.fromkeys([*kit.plugins.names(), *failed])
    rows = [
        {"name": name, "state": "failed" if name in failed else "loaded", "reason": failed.get(name)} for name in names
    ]
    show(rows, as_json=as_json, red=lambda row: row["state"] == "failed")


def openapi(
    target: Target = None,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the schema to this file.")] = None,
) -> None:
    """Print the app's OpenAPI schema."""
    schema = json.dumps(find_kit(target).kit.app.openapi(), indent=2)
    if output is None:
        typer.echo(schema)
    else:
        output.write_text(f"{schema}\n", encoding="utf-8")


def secret() -> None:
    """Print a new random secret for AUTH_SECRET_KEYS."""
    from appkit.core.secrets import new_secret

    typer.echo(new_secret())


COMMANDS = (routes, errors, settings, plugins, openapi, secret)


def typescript(classes: "list[type[APIException]]") -> str:
    """Create a TypeScript module with the error codes. The name of a code is the name of the exception class."""
    lines = ["// Made by `appkit errors --ts`: don't edit, run it again.", "", "export const ErrorCode = {"]
    for cls in classes:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__.removesuffix("Exception"))
        when = (cls.__doc__ or cls.detail).strip().splitlines()[0]
        lines += [f"  /** {cls.status_code}: {when} */", f"  {words.upper()}: {cls.internal_code},"]
    lines += ["} as const", "", "export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode]"]
    return "\n".join(lines) + "\n"


def _settings(values: "Settings") -> Iterator[dict[str, Any]]:
    from appkit.core.environment import variables
    from appkit.core.logging import redact

    for variable in variables(type(values)):
        value: Any = values
        for name in variable.path:
            value = getattr(value, name)
        default = variable.field.get_default(call_default_factory=True)
        yield {"variable": variable.name, "value": redact(value), "changed": value != default}
