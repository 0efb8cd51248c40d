"""The `appkit` command."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from appkit.__about__ import __version__
from appkit.cli import check, database, generate, inspection, server, tasks, users
from appkit.cli.output import fail
from appkit.exceptions import APIException, AppKitError


def main() -> None:
    """Run the command that the process's arguments name."""
    cli = create_cli()
    try:
        add_plugin_commands(cli, sys.argv[1:])
        cli()
    except (AppKitError, APIException) as exc:
        sys.exit(fail(_sentences(exc)).exit_code)


def create_cli() -> typer.Typer:
    """The command with all that is appkit's own."""
    cli = typer.Typer(
        name="appkit",
        help="Serve, inspect and look after an app made with appkit.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    cli.callback()(_root)
    _add(cli, "Begin", generate.new)
    cli.add_typer(generate.add, name="add", rich_help_panel="Begin")
    _add(cli, "Serve", server.dev, server.run, server.worker)
    cli.add_typer(database.cli, name="db", rich_help_panel="Look after")
    cli.add_typer(users.cli, name="users", rich_help_panel="Look after")
    cli.add_typer(tasks.cli, name="tasks", rich_help_panel="Look after")
    _add(
        cli,
        "Inspect",
        check.check,
        inspection.routes,
        inspection.errors,
        inspection.settings,
        inspection.plugins,
        inspection.openapi,
        inspection.secret,
    )
    return cli


def add_plugin_commands(cli: typer.Typer, arguments: list[str]) -> None:
    """Let plugins add theirs, but only when the first word is none of ours: all others stay quick."""
    word = next((argument for argument in arguments if not argument.startswith("-")), None)
    if word is None or word in command_names(cli):
        return
    from appkit.cli.discovery import find_kit

    try:
        kit = find_kit().kit
        kit.plugins.collect("register_commands", cli=cli, kit=kit)
    except AppKitError as exc:
        typer.secho(f"No plugin's commands are known here. {exc}", fg="yellow", err=True)


def command_names(cli: typer.Typer) -> set[str | None]:
    """The first words that `cli` knows."""
    commands = {info.name or getattr(info.callback, "__name__", None) for info in cli.registered_commands}
    return commands | {info.name for info in cli.registered_groups}


def _add(cli: typer.Typer, panel: str, *commands: Callable[..., None]) -> None:
    for command in commands:
        cli.command(rich_help_panel=panel)(command)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  # Typer calls it so.
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def _sentences(exc: AppKitError | APIException) -> str:
    """What went wrong, as an API would say it field by field, and what was behind it."""
    fields = exc.extra.get("errors", []) if isinstance(exc, APIException) else []
    parts = [str(exc), *(field["message"] for field in fields)]
    if isinstance(exc, APIException) and exc.__cause__ is not None:
        parts.append(f"({str(exc.__cause__).splitlines()[0]})")
    return " ".join(dict.fromkeys(parts))
