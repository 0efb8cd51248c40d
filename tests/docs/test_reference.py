"""The generated reference is complete."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_command

import appkit
from appkit.api.problems import PAGES
from appkit.cli import create_cli
from appkit.cli.check import BuiltInChecks, page_of
from appkit.core.environment import variables
from appkit.exceptions import APIException
from appkit.kit import HOOKS
from appkit.repository.migrations.lint import RULES
from appkit.testing import plugin

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def reference(hooks: ModuleType):
    return lambda name: hooks.on_page_markdown((DOCS / "reference" / f"{name}.md").read_text())


def test_reference_lists_every_setting(reference, hooks):
    text = reference("settings")
    for variable in variables(hooks.SETTINGS):
        row = re.search(rf"^\| `{variable.name}` \| (.+) \| (.*) \| (.+) \|$", text, re.MULTILINE)
        assert row is not None, variable.name
        assert row[3].strip().endswith("."), f"{variable.name} has no sentence"


def test_reference_lists_every_error_where_answers_point(reference):
    text = reference("errors")
    own = {code: cls for code, cls in APIException.registry().items() if cls.__module__.startswith("appkit.")}
    assert own
    for code, cls in own.items():
        assert f"### {code} `{cls.__name__}` {{ #{code} }}" in text
    site = re.search(r"^site_url: (\S+)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert site is not None
    assert f"{site[1]}reference/errors/" == PAGES


def test_reference_lists_every_hook_with_its_arguments_and_an_example(reference):
    text = reference("hooks")
    names = [name for space in HOOKS for name, value in vars(space).items() if hasattr(value, "appkit_spec")]
    assert names
    for name in names:
        section = re.search(rf"^## `{name}`$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section is not None, name
        assert f"def {name}(" in section[1]
        assert section[1].count("```python") == 2, f"{name} has no example"
        assert "@hookimpl" in section[1]


def test_reference_lists_every_rule_of_the_lint(reference):
    text = reference("lint")
    for code, sentences in RULES.items():
        assert f"## {code} {{ #{code.lower()} }}" in text
        assert all(sentence in text for sentence in sentences)


def test_reference_lists_every_check_where_findings_point(reference):
    text = reference("checks")
    for check in BuiltInChecks().register_checks():
        assert f"### {check.code} {{ #{check.code.lower()} }}\n\n{check.problem}\n\n{check.fix}\n" in text
        assert (page_of(check) or "").endswith(f"/reference/checks/#{check.code.lower()}")


def test_reference_lists_every_fixture_with_a_test_that_runs(reference):
    text = reference("testing")
    fixtures = [name for name, value in vars(plugin).items() if type(value).__name__ == "FixtureFunctionDefinition"]
    public = [name for name in fixtures if not name.startswith("_")]
    assert len(public) >= 15
    for name in public:
        section = re.search(rf"^## `{name}` {{ #{name} }}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section is not None, name
        assert f"def test_{name}(" in section[1]


def test_reference_lists_every_command(reference):
    text = reference("cli")

    def check(path: str, command: object) -> None:
        children = getattr(command, "commands", {})
        if path != "appkit":
            assert f"## `{path}`\n" in text
        for name, child in children.items():
            check(f"{path} {name}", child)

    check("appkit", get_command(create_cli()))


def test_reference_lists_every_public_name():
    listed = re.findall(r"^::: appkit\.(\w+)$", (DOCS / "reference" / "api.md").read_text(), re.MULTILINE)
    public = [name for name in dir(appkit) if name != "__version__"]
    assert sorted(listed) == sorted(public)
    assert len(listed) == len(set(listed))
