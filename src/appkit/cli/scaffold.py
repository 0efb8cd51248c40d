"""Files made from templates: what is there is never overwritten."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from appkit.exceptions import AppKitError

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, context: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """The files that a template makes, with their paths.

    Args:
        template: A folder of `cli/templates`. Its files' names are templates too, and end in `.jinja`.
        context: What they speak of.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    root = TEMPLATES / template
    jinja = Environment(
        loader=FileSystemLoader(root),
        autoescape=False,  # noqa: S701 - these are programs, not pages
        keep_trailing_newline=True,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    for name in sorted(jinja.list_templates()):
        path = jinja.from_string(name.removesuffix(".jinja")).render(context)
        # Git and build tools would heed a file of this name among the templates.
        yield Path(".gitignore" if path == "gitignore" else path), jinja.get_template(name).render(context)


def write(root: Path, files: Mapping[Path, str]) -> list[Path]:
    """Write files below a folder; return those that are new.

    Raises:
        AppKitError: When one of them is there already, with other contents; nothing has been written then.
    """
    there = [path for path, text in files.items() if (root / path).exists() and _read(root / path) != text]
    if there:
        shown = "\n\n".join(f"--- {path}\n{files[path]}" for path in there)
        raise AppKitError(
            f"{shown}\nNothing was written, for {', '.join(map(str, there))} "
            f"{'is' if len(there) == 1 else 'are'} there already. Above is what would have been written."
        )
    new = [path for path in files if not (root / path).exists()]
    for path in new:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(files[path], encoding="utf-8")
    return [root / path for path in new]


def tidy(root: Path, paths: list[Path]) -> None:
    """Put lines and imports as ruff wants them, where it is installed."""
    if ruff := shutil.which(
        "ruff", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    ):
        python = [str(path) for path in paths if path.suffix == ".py"]
        for command in (["check", "--quiet", "--select", "I", "--fix"], ["format", "--quiet"]):
            subprocess.run([ruff, *command, *python], cwd=root, check=False)


def write_migration(root: Path, message: str) -> str:
    """Write the migration that the models need; return where it is."""
    return run_appkit(root, "db", "revision", "-m", message)


def run_appkit(root: Path, *arguments: str) -> str:
    """Run a command for the app in a folder, in a process that imports it; return what it said.

    Raises:
        AppKitError: When that failed.
    """
    environment = {**os.environ, "ENVIRONMENT": "development", "DATABASE_URL": "", "APPKIT_KIT": ""}
    command = [sys.executable, "-m", "appkit", *arguments]
    done = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise AppKitError(f"The files are there, but `appkit {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
