"""Hooks: each is documented, with an example that is one."""

import inspect
import re
import textwrap
from contextlib import asynccontextmanager
from typing import Any

import pluggy
import pytest

from appkit.core.settings import PluginsSettings
from appkit.plugins import hookspecs
from appkit.plugins.manager import PluginManager

_MANAGER = pluggy.PluginManager("appkit")
HOOKS = [name for name in vars(hookspecs) if _MANAGER.parse_hookspec_opts(hookspecs, name) is not None]


def test_hooks_are_those_of_the_reference():
    assert HOOKS == [
        "register_routers",
        "register_middleware",
        "register_exception_handlers",
        "register_tasks",
        "register_commands",
        "register_health_checks",
        "lifespan",
        "token_claims",
        "check_password",
        "write_mail",
        "on_exception",
    ]


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_an_example_that_registers(hook: str):
    documentation = inspect.getdoc(getattr(hookspecs, hook)) or ""
    example = re.search(r"Example:\n\s*```python\n(.*?)```", documentation, re.DOTALL)
    assert example is not None
    namespace: dict[str, Any] = {"hookimpl": hookspecs.hookimpl, "asynccontextmanager": asynccontextmanager}
    exec(compile(textwrap.dedent(example[1]), hook, "exec"), namespace)
    plugin = type("Plugin", (), {hook: staticmethod(namespace[hook])})()
    plugins = PluginManager(PluginsSettings(strict=True))
    plugins.register(plugin, "example")
    assert len(plugins._implementations(hook)) == 1
