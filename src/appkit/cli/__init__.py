"""The `appkit` command, with its groups and the commands of plugins."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from appkit.__about__ import __version__
from appkit.cli import check, database, generate, inspection, server, tasks, users
from appkit.cli.output import fail
from appkit.exceptions import APIException, AppKitError


def main() -> None:
    """Entry point: run the command in `sys.argv`."""
    cli = create_cli()
    try:
        add_plugin_commands(cli, sys.argv[1:])
        cli()
    except (AppKitError, APIException) as exc:
        sys.exit(fail(_describe(exc)).exit_code)


def create_cli() -> typer.Typer:
    """Build the command with appkit's own subcommands."""
    cli = typer.Typer(
        name="appkit",
        help="Create, serve, inspect and manage an app that is made with appkit.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    cli.callback()(_root)
    _add(cli, "Create", generate.new)
    cli.add_typer(generate.add, name="add", rich_help_panel="Create")
    _add(cli, "Serve", server.dev, server.run, server.worker)
    cli.add_typer(database.cli, name="db", rich_help_panel="Manage")
    cli.add_typer(users.cli, name="users", rich_help_panel="Manage")
    cli.add_typer(tasks.cli, name="tasks", rich_help_panel="Manage")
    _add(cli, "Inspect", check.check, *inspection.COMMANDS)
    return cli


def add_plugin_commands(cli: typer.Typer, arguments: list[str]) -> None:
    """Add the commands of plugins. For appkit's own commands, skip this, because importing the app takes time."""
    word = next((argument for argument in arguments if not argument.startswith("-")), None)
    if word is None or word in command_names(cli):
        return
    from appkit.cli.discovery import find_kit

    try:
        kit = find_kit().kit
        kit.plugins.collect("register_commands", cli=cli, kit=kit)
    except AppKitError as exc:
        typer.secho(f"The commands of plugins could not be loaded. {exc}", fg="yellow", err=True)


def command_names(cli: typer.Typer) -> set[str | None]:
    """The names of the commands and groups in `cli`."""
    commands = {info.name or getattr(info.callback, "__name__", None) for info in cli.registered_commands}
    return commands | {info.name for info in cli.registered_groups}


def _add(cli: typer.Typer, panel: str, *commands: Callable[..., None]) -> None:
    for command in commands:
        cli.command(rich_help_panel=panel)(command)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer passes it positionally
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def _describe(exc: AppKitError | APIException) -> str:
    """The message of an error, the messages of its fields, and its cause."""
    fields = exc.extra.get("errors", []) if isinstance(exc, APIException) else []
    parts = [str(exc), *(field["message"] for field in fields)]
    if isinstance(exc, APIException) and exc.__cause__ is not None:
        parts.append(f"({str(exc.__cause__).splitlines()[0]})")
    return " ".join(dict.fromkeys(parts))
