"""`appkit users`: the people who may sign in."""

import typer

cli = typer.Typer(help="Look after the people who sign in.", no_args_is_help=True)
