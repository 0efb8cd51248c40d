"""Hooks: each is documented with an example that registers, and is implemented in appkit or marked as provisional."""

import ast
import inspect
import re
import textwrap
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pluggy
import pytest

from appkit.core.settings import SettingsGroup
from appkit.kit import HOOKS as DECLARED
from appkit.plugins.manager import PluginManager
from appkit.plugins.markers import hookimpl

ROOT = Path(__file__).parents[2]
_MANAGER = pluggy.PluginManager("appkit")
SPECS = {
    name: getattr(namespace, name)
    for namespace in DECLARED
    for name in vars(namespace)
    if _MANAGER.parse_hookspec_opts(namespace, name) is not None
}
HOOKS = list(SPECS)


def implemented() -> set[str]:
    """The hooks that appkit itself implements: the functions marked `hookimpl`, and those that the kit registers."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "src" / "appkit").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    marked = {each.name for each in functions if "hookimpl" in map(ast.unparse, each.decorator_list)}
    keywords = [node for node in nodes if isinstance(node, ast.keyword)]
    return marked | {str(each.arg) for each in keywords if ast.unparse(each.value).startswith("hookimpl(")}


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_a_test_of_its_own(hook: str):
    """Somewhere below `tests` is a `test_hook_…` for it."""
    tests = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert re.search(rf"def test_hook_{hook}(_|\(|$)", tests, re.MULTILINE)


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_an_example_that_registers(hook: str):
    documentation = inspect.getdoc(SPECS[hook]) or ""
    example = re.search(r"Example:\n\s*```python\n(.*?)```", documentation, re.DOTALL)
    assert example is not None
    namespace: dict[str, Any] = {
        "hookimpl": hookimpl,
        "asynccontextmanager": asynccontextmanager,
        "SettingsGroup": SettingsGroup,
    }
    exec(compile(textwrap.dedent(example[1]), hook, "exec"), namespace)
    plugin = type("Plugin", (), {hook: staticmethod(namespace[hook])})()
    plugins = PluginManager(DECLARED, strict=True)
    plugins.register(plugin, "example")
    assert len(plugins._implementations(hook)) == 1


def test_hooks_that_appkit_does_not_implement_are_provisional():
    marks = {hook: inspect.getsource(spec).partition("def")[0] for hook, spec in SPECS.items()}
    provisional = {hook for hook, lines in marks.items() if "@provisional" in lines}
    assert implemented() <= set(HOOKS)
    assert provisional == set(HOOKS) - implemented()
