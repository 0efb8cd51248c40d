"""Commands that inspect an app: `routes`, `errors`, `settings`, `plugins`, `openapi` and `secret`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appkit.cli.discovery import find_kit
from appkit.cli.errors import errors
from appkit.cli.output import AsJson, Target, show

if TYPE_CHECKING:
    from appkit.core.settings import Settings


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


def _settings(values: "Settings") -> Iterator[dict[str, Any]]:
    from appkit.core.environment import variables
    from appkit.core.redaction import redact

    for variable in variables(type(values)):
        value: Any = values
        for name in variable.path:
            value = getattr(value, name)
        default = variable.field.get_default(call_default_factory=True)
        yield {"variable": variable.name, "value": redact(value), "changed": value != default}
