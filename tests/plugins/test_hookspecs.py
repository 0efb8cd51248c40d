"""Hooks: each is documented, with an example that is one."""

import inspect
import re
import textwrap
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pluggy
import pytest

from appkit.core.settings import PluginsSettings, SettingsGroup
from appkit.plugins import hookspecs
from appkit.plugins.manager import PluginManager

_MANAGER = pluggy.PluginManager("appkit")
HOOKS = [name for name in vars(hookspecs) if _MANAGER.parse_hookspec_opts(hookspecs, name) is not None]


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_a_test_of_its_own(hook: str):
    """Somewhere below here is a `test_hook_…` for it."""
    tests = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert re.search(rf"def test_hook_{hook}(_|\(|$)", tests, re.MULTILINE)


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_an_example_that_registers(hook: str):
    documentation = inspect.getdoc(getattr(hookspecs, hook)) or ""
    example = re.search(r"Example:\n\s*```python\n(.*?)```", documentation, re.DOTALL)
    assert example is not None
    namespace: dict[str, Any] = {
        "hookimpl": hookspecs.hookimpl,
        "asynccontextmanager": asynccontextmanager,
        "SettingsGroup": SettingsGroup,
    }
    exec(compile(textwrap.dedent(example[1]), hook, "exec"), namespace)
    plugin = type("Plugin", (), {hook: staticmethod(namespace[hook])})()
    plugins = PluginManager(PluginsSettings(strict=True))
    plugins.register(plugin, "example")
    assert len(plugins._implementations(hook)) == 1
