"""What is imported when: by reading the code, and by looking at what a fresh interpreter loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import appkit

ROOT = Path(__file__).parents[2]
HEAVY = {"alembic", "fastapi", "redis", "sentry_sdk", "sqlalchemy", "structlog", "taskiq"}


def loaded(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after running this."""
    script = f"import json, sys\n{code}\nprint(json.dumps(list(sys.modules)))"
    result = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return HEAVY.intersection(json.loads(result.stdout.splitlines()[-1]))


def test_contracts_are_kept() -> None:
    """The layers of pyproject.toml, so that a test run says what `nox -s lint` would."""
    pytest.importorskip("importlinter", reason="import-linter is in the dependency group `lint`")
    # A process of its own, for it sets up logging for all of it.
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout


def test_import_costs_nothing() -> None:
    assert loaded("import appkit") == set()


def test_kit_loads_only_what_every_app_uses() -> None:
    assert loaded("from appkit import AppKit") <= {"fastapi", "sqlalchemy"}


def test_help_loads_nothing_but_the_command() -> None:
    help_text = "import appkit.cli\nsys.argv = ['appkit', '--help']\ntry: appkit.cli.main()\nexcept SystemExit: pass"
    assert loaded(help_text) == set()


def test_pytest_plugin_costs_nothing_where_it_is_not_used() -> None:
    assert loaded("import appkit.testing.plugin") == set()


def test_shop_window_is_sorted_and_every_name_is_there() -> None:
    names = vars(appkit)["__all__"]
    assert list(names) == sorted(names, key=str.casefold)
    assert {name for name in names if getattr(appkit, name, None) is None} == set()
    assert set(dir(appkit)) == set(names)


def test_shop_window_refuses_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        getattr(appkit, "Nothing")  # noqa: B009  # mypy knows that it isn't there.
