"""Commands that inspect an app, and errors of the command itself."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from appkit.__about__ import __version__

APP = '''
from fastapi import APIRouter
import typer
from appkit import AppKit, NotFoundException, hookimpl

router = APIRouter()


class NoSuchShelfException(NotFoundException):
    """The shelf was taken down."""

    internal_code = 40449


@router.get("/shelves")
async def list_shelves() -> list[str]:
    return []


class Commands:
    @hookimpl
    def register_commands(self, cli):
        @cli.command()
        def dust():
            typer.echo("dusted")


kit = AppKit(routers=[router], plugins=[Commands()])
'''

Appkit = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _library(folder: Path) -> None:
    (folder / "library.py").write_text(APP)


def test_routes_are_listed_with_full_paths(appkit: Appkit) -> None:
    code, out, _ = appkit("routes", "--json")
    assert code == 0
    assert {"methods": ["GET"], "path": "/api/shelves", "name": "list_shelves"} in json.loads(out)
    assert "/api/shelves" in appkit("routes")[1]


def test_errors_are_listed_by_code(appkit: Appkit) -> None:
    found = json.loads(appkit("errors", "--json")[1])
    codes = [error["code"] for error in found]
    assert codes == sorted(codes)
    assert {"code": 40449, "status": 404, "name": "NoSuchShelfException", "detail": "There is nothing here."} in found


def test_errors_are_written_as_typescript_and_check_fails_when_outdated(appkit: Appkit, folder: Path) -> None:
    assert appkit("errors", "--ts", "codes.ts")[0] == 0
    text = (folder / "codes.ts").read_text()
    assert "  /** 404: The shelf was taken down. */\n  NO_SUCH_SHELF: 40449,\n" in text
    assert appkit("errors", "--ts", "codes.ts", "--check")[0] == 0
    (folder / "codes.ts").write_text(text.replace("40449", "40448"))
    code, _, err = appkit("errors", "--ts", "codes.ts", "--check")
    assert code == 1
    assert "Run `appkit errors --ts codes.ts`." in err


def test_settings_are_shown_without_their_secrets(appkit: Appkit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_SECRET_KEYS", '["gladiolus-and-thirty-more-letters-for-good"]')
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada:lovelace@db/shop")
    table, document = appkit("settings")[1], appkit("settings", "--json")[1]
    assert "gladiolus" not in table + document
    assert "lovelace" not in table + document
    found = {setting["variable"]: setting for setting in json.loads(document)}
    assert found["DATABASE_URL"]["value"] == "postgresql://ada:***@db/shop"
    assert found["DATABASE_URL"]["changed"]
    assert not found["DATABASE_POOL_SIZE"]["changed"]


def test_plugins_are_listed(appkit: Appkit) -> None:
    found = json.loads(appkit("plugins", "--json")[1])
    assert {"name": "Commands", "state": "loaded", "reason": None} in found


def test_failed_plugin_is_listed_with_the_reason(appkit: Appkit, folder: Path) -> None:
    """One plugin fails at import, and one while the app is built."""
    (folder / "fern.py").write_text("from appkit import hookimpl\n\n@hookimpl\ndef register_routers(): 1 / 0\n")
    info = folder / "fern-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fern\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[appkit]\nfern = fern\nmoss = fern_without_moss\n")
    found = {plugin["name"]: plugin for plugin in json.loads(appkit("plugins", "--json")[1])}
    assert found["fern"] == {"name": "fern", "state": "failed", "reason": "ZeroDivisionError: division by zero"}
    assert found["moss"]["reason"] == "ModuleNotFoundError: No module named 'fern_without_moss'"
    assert found["Commands"]["state"] == "loaded"
    assert "ZeroDivisionError" in appkit("plugins")[1]


def test_openapi_is_written_without_a_server(appkit: Appkit, folder: Path) -> None:
    assert "/api/shelves" in json.loads(appkit("openapi")[1])["paths"]
    assert appkit("openapi", "-o", "openapi.json")[0] == 0
    assert "/api/shelves" in json.loads((folder / "openapi.json").read_text())["paths"]


def test_secret_is_strong_and_new_each_time(appkit: Appkit) -> None:
    first, second = (appkit("secret")[1].strip() for _ in range(2))
    assert len(first) >= 32
    assert first != second


def test_command_of_a_plugin_runs(appkit: Appkit) -> None:
    assert appkit("dust") == (0, "dusted\n", "")


def test_unknown_command_prints_no_traceback(appkit: Appkit) -> None:
    code, _, err = appkit("polish")
    assert code == 2
    assert "No such command 'polish'" in err


def test_unknown_command_says_why_plugins_were_not_loaded(appkit: Appkit, folder: Path) -> None:
    (folder / "library.py").unlink()
    code, _, err = appkit("dust")
    assert code == 2
    assert "There is no AppKit in this folder." in err


def test_invalid_setting_is_an_error_that_names_the_variable(appkit: Appkit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_POOL_SIZE", "many")
    code, out, err = appkit("routes")
    assert (code, out) == (1, "")
    assert "DATABASE_POOL_SIZE" in err
    assert "many" not in err
    assert "Traceback" not in err


def test_production_refuses_to_run_without_a_secret(appkit: Appkit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "")
    code, _, err = appkit("run")
    assert code == 1
    assert "AUTH_SECRET_KEYS is missing." in err


def test_version_is_printed(appkit: Appkit) -> None:
    assert appkit("--version")[:2] == (0, f"{__version__}\n")
