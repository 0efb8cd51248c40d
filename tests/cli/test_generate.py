"""`appkit new` and `appkit add`: the files that they generate, and the input that they refuse."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from appkit.cli.entity import entity_context
from appkit.cli.generate import context_for, render, write
from appkit.exceptions import AppKitError

HOSTILE = {"DATABASE_URL": "nonsense", "APPKIT_KIT": "nowhere:kit", "ENVIRONMENT": "production"}


def run(folder: Path, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=inherited | environment,
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_new_app_with_two_entities_passes_its_own_checks(tmp_path):
    made = run(tmp_path, "appkit", "new", "corner-shop", **HOSTILE)
    assert made.returncode == 0, made.stderr
    shop = tmp_path / "corner-shop"
    added = run(shop, "appkit", "add", "entity", "BlogPost", "title:str", "text:text", "day:date?", "author:user")
    assert added.returncode == 0, added.stderr
    added = run(shop / "backend", "appkit", "add", "entity", "Category", "weight:int", "open:bool", "at:datetime")
    assert added.returncode == 0, added.stderr
    for command in (
        ["pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"],
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["appkit", "db", "check"],
        ["appkit", "check"],
    ):
        done = run(shop, *command)
        assert done.returncode == 0, done.stdout + done.stderr
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    linted = subprocess.run(
        [sys.executable, "-c", code], cwd=shop, env={**os.environ, "PYTHONPATH": "backend"}, check=False
    )
    assert linted.returncode == 0


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("broker", ["db", "redis", "rabbitmq"])
def test_new_app_composes_the_services_that_it_uses(tmp_path, database, broker):
    context = context_for("shop", "none", database, broker)
    files = {str(path): text for path, text in render("app", context)}
    compose, project = yaml.safe_load(files["compose.yaml"]), tomllib.loads(files["pyproject.toml"])
    workers = {"worker"} if (database, broker) != ("sqlite", "db") else set()
    services = {"database"} if database == "postgresql" else set()
    services |= {"broker"} if broker != "db" else set()
    assert {*compose["services"]} == {"app", "mail"} | workers | services
    assert {*compose["services"]["app"].get("depends_on", {})} == services
    extras = {"postgresql": "postgres"}.get(database), None if broker == "db" else broker
    (dependency,) = project["project"]["dependencies"]
    assert dependency.partition("[")[2].partition("]")[0].split(",") == ["mail", *filter(None, extras)]


def test_new_plugin_is_a_package_with_an_entry_point(tmp_path):
    assert run(tmp_path, "appkit", "new", "page-count", "--plugin").returncode == 0
    project = tomllib.loads((tmp_path / "page-count" / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["appkit"] == {"page_count": "appkit_page_count"}
    assert (tmp_path / "page-count" / "src" / "appkit_page_count" / "__init__.py").is_file()
    pytest.importorskip("ruff", reason="ruff is installed where the style is checked")
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        done = run(tmp_path / "page-count", *command)
        assert done.returncode == 0, done.stdout + done.stderr


def test_new_app_requires_a_valid_name_and_an_empty_folder(tmp_path):
    assert "is not a valid name" in run(tmp_path, "appkit", "new", "Shop!").stderr
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "mine.txt").touch()
    assert "not empty" in run(tmp_path, "appkit", "new", "shop").stderr
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["mine.txt"]


def test_entity_is_added_only_inside_an_app(tmp_path):
    assert "inside an app made by `appkit new`" in run(tmp_path, "appkit", "add", "entity", "Post", "title:str").stderr


def test_nothing_is_written_when_a_file_exists_with_other_contents(tmp_path):
    (tmp_path / "b.py").write_text("mine")
    with pytest.raises(
        AppKitError, match="Nothing was written, because .* already exist with other contents: b.py"
    ) as refused:
        write(tmp_path, {Path("a.py"): "one", Path("b.py"): "would have been this"})
    assert "would have been this" in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["b.py"]


def test_existing_file_with_same_contents_is_kept(tmp_path):
    (tmp_path / "b.py").write_text("same")
    assert write(tmp_path, {Path("a.py"): "one", Path("b.py"): "same"}) == [tmp_path / "a.py"]


@pytest.mark.parametrize(
    ("name", "fields", "problem"),
    [
        ("post", ["title:str"], "is not a valid class name"),
        ("None", ["title:str"], "is not a valid class name"),
        ("Post", ["Title:str"], "is not a valid field name"),
        ("Post", ["class:str"], "is not a valid field name"),
        ("Post", ["id:int"], "is not a valid field name"),
        ("Post", ["title"], "has an unknown type"),
        ("Post", ["title:varchar"], "has an unknown type"),
        ("Post", ["title:str", "author:user?"], "has an unknown type"),
        ("Post", ["author:user"], "needs at least one field"),
        ("Post", ["title:str", "title:text"], "Give each field once"),
        ("Post", ["title:str", "author:user", "editor:user"], "not more than one field of type user"),
    ],
)
def test_invalid_entity_is_refused_with_the_reason(name, fields, problem):
    with pytest.raises(AppKitError, match=problem):
        entity_context(name, fields)


@pytest.mark.parametrize(
    ("name", "snake", "plural"),
    [
        ("Post", "post", "posts"),
        ("BlogPost", "blog_post", "blog_posts"),
        ("Category", "category", "categories"),
        ("Day", "day", "days"),
        ("Box", "box", "boxes"),
        ("HTTPLog", "http_log", "http_logs"),
    ],
)
def test_entity_has_a_plural(name, snake, plural):
    context = entity_context(name, ["title:str"])
    assert (context["snake"], context["plural"]) == (snake, plural)
