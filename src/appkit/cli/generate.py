"""`appkit new` and `appkit add entity`: create an app, a plugin or an entity from templates."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from appkit.__about__ import __version__
from appkit.cli.discovery import configured_kit
from appkit.exceptions import AppKitError

Frontend = Literal["none", "vue"]
DatabaseKind = Literal["sqlite", "postgresql"]
BrokerKind = Literal["db", "redis", "rabbitmq"]

TEMPLATES = Path(__file__).parent / "templates"
BROKER_URLS = {"db": "db://", "redis": "redis://{}:6379", "rabbitmq": "amqp://guest:guest@{}"}

add = typer.Typer(help="Add code to an app made by `appkit new`.", no_args_is_help=True)


def new(
    name: Annotated[str, typer.Argument(help="The name of the app and of its folder.")],
    *,
    frontend: Annotated[Frontend, typer.Option(help="The frontend to start with.")] = "none",
    database: Annotated[
        DatabaseKind, typer.Option(help="The database in production. Development and tests use SQLite.")
    ] = "sqlite",
    broker: Annotated[
        BrokerKind, typer.Option(help="The task broker in production. `db` is the app's database.")
    ] = "db",
    plugin: Annotated[bool, typer.Option("--plugin", help="Create a plugin package instead of an app.")] = False,
) -> None:
    """Create an app with layers, import rules, a first migration, tests, a Dockerfile and CI."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise AppKitError(f"{name!r} is not a valid name. Use lower-case letters, digits and hyphens, as in `my-shop`.")
    root = Path(name)
    if root.exists() and any(root.iterdir()):
        raise AppKitError(f"The folder {name} already exists and is not empty. Choose another name.")
    if plugin:
        write(root, dict(render("plugin", plugin_context(name))))
        typer.echo(f"Created {name}. Next:\n\n  cd {name}\n  pip install -e '.[dev]' && pytest")
        return
    context = context_for(name, frontend, database, broker)
    write(root, dict(render("app", context)))
    if frontend == "vue":
        write(root / "frontend", dict(render("vue", context)))
    run_appkit(root, "db", "revision", "-m", "Create the first tables")
    if frontend == "vue":
        run_appkit(root, "errors", "--ts", "frontend/src/api/errorCodes.gen.ts")
    typer.echo(
        f"Created {name}. Next, in a virtual environment:\n\n"
        f"  cd {name}\n  pip install -e '.[dev]'\n  appkit dev    # run the app\n  pytest        # run its tests"
    )


def context_for(name: str, frontend: Frontend, database: DatabaseKind, broker: BrokerKind) -> dict[str, Any]:
    """The variables of the app templates."""
    extras = {"postgres": database == "postgresql", "redis": broker == "redis", "rabbitmq": broker == "rabbitmq"}
    return {
        "name": name,
        "title": name.replace("-", " ").capitalize(),
        "version": __version__,
        "extras": ["mail", *(extra for extra, wanted in extras.items() if wanted)],
        "frontend": frontend,
        "database": database,
        "broker": broker,
        "workers": database == "postgresql" or broker != "db",
        "database_url": "postgresql://app:secret@{}/app".format,
        "broker_url": BROKER_URLS[broker].format,
    }


def plugin_context(name: str) -> dict[str, Any]:
    """The variables of the plugin templates."""
    entry = name.replace("-", "_")
    return {
        "name": name,
        "title": name.replace("-", " ").capitalize(),
        "version": __version__,
        "entry": entry,
        "module": f"appkit_{entry}",
        "class_name": "".join(map(str.capitalize, name.split("-"))),
        "variable": entry.upper(),
    }


@add.command()
def entity(
    name: Annotated[str, typer.Argument(help="The name of the model: a singular noun, as in `Post`.")],
    fields: Annotated[
        list[str], typer.Argument(metavar="FIELD:TYPE...", help="As in `title:str`, `subtitle:str?` and `author:user`.")
    ],
) -> None:
    """Add a model with its service, routes, schemas, tests and migration."""
    from appkit.cli.entity import entity_context

    root = _root()
    context = entity_context(name, fields)
    made = write(root, dict(render("entity", {"entity": context})))
    tidy(root, made)
    for path in made:
        typer.echo(f"Wrote {path.relative_to(root)}")
    typer.echo(run_appkit(root, "db", "revision", "-m", f"Add {context['plural_words']}"))


def _root() -> Path:
    """The root folder of the app that contains the working directory."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if configured_kit(folder) is not None:
            return folder
    raise AppKitError(
        "No pyproject.toml here or above sets `kit` in [tool.appkit]. Run this inside an app made by `appkit new`."
    )


def render(template: str, context: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Render the templates in a folder of `cli/templates`, and yield the path and text of each file.

    The names of the files are templates too.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    root = TEMPLATES / template
    jinja = Environment(
        loader=FileSystemLoader(root),
        autoescape=False,  # noqa: S701 - the output is source code, not HTML
        keep_trailing_newline=True,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    for name in sorted(jinja.list_templates()):
        path = jinja.from_string(name.removesuffix(".jinja")).render(context)
        # The template's name has no dot, because Git would use a template that is named `.gitignore`.
        yield Path(".gitignore" if path == "gitignore" else path), jinja.get_template(name).render(context)


def write(root: Path, files: Mapping[Path, str]) -> list[Path]:
    """Write files below a folder, and return the new files.

    Raises:
        AppKitError: When a file already exists with other contents. Then nothing is written.
    """
    existing = [path for path, text in files.items() if (root / path).exists() and _read(root / path) != text]
    if existing:
        shown = "\n\n".join(f"--- {path}\n{files[path]}" for path in existing)
        raise AppKitError(
            f"{shown}\nNothing was written, because these files already exist with other contents: "
            f"{', '.join(map(str, existing))}. Rename or remove these files, or merge the text above by hand."
        )
    new = [path for path in files if not (root / path).exists()]
    for path in new:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(files[path], encoding="utf-8")
    return [root / path for path in new]


def tidy(root: Path, paths: list[Path]) -> None:
    """Format files and sort their imports with ruff, if ruff is installed."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    if ruff := shutil.which("ruff", path=os.pathsep.join(places)):
        python = [str(path) for path in paths if path.suffix == ".py"]
        for command in (["check", "--quiet", "--select", "I", "--fix"], ["format", "--quiet"]):
            subprocess.run([ruff, *command, *python], cwd=root, check=False)


def run_appkit(root: Path, *arguments: str) -> str:
    """Run `appkit` for the app in a folder, in a separate process, and return its output.

    Raises:
        AppKitError: When the command failed.
    """
    environment = {**os.environ, "ENVIRONMENT": "development", "DATABASE_URL": "", "APPKIT_KIT": ""}
    command = [sys.executable, "-m", "appkit", *arguments]
    done = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise AppKitError(f"The files were written, but `appkit {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
