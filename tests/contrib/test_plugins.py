"""Rules that all optional features follow."""

import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

from appkit import contrib
from appkit.core.settings import Settings
from appkit.exceptions import APIException
from appkit.kit import AppKit

NAMES = [module.name for module in pkgutil.iter_modules(contrib.__path__)]
NEEDS = [
    ("totp", "pyotp"),
    ("totp", "segno"),
    ("passkeys", "webauthn"),
    ("oauth", "authlib"),
    ("breached_passwords", "httpx2"),
    ("metrics", "prometheus_client"),
    ("admin", "starlette_admin"),
]


def python(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_plugin_has_an_entry_point(name):
    plugin = import_module(f"appkit.contrib.{name}")
    kit = AppKit(Settings(environment="test"), plugins=[plugin], discover=False)
    assert any(name in registered for registered in kit.plugins.names())
    assert plugin.__doc__ is not None
    assert f"plugins=[{name}]" in plugin.__doc__


@pytest.mark.parametrize(("plugin", "package"), NEEDS)
def test_plugin_without_its_packages_says_what_to_install(plugin, package):
    code = f"import sys; sys.modules[{package!r}] = None\nfrom appkit.contrib import {plugin}"
    said = python(code).stderr.strip().splitlines()[-1]
    assert said.startswith("appkit.exceptions.AppKitError: ")
    assert f"pip install 'fastapi-appkit[{plugin.replace('_', '-')}]'" in said


def test_app_without_plugins_has_none_of_their_tables_and_imports_none_of_their_packages():
    code = """
import sys
from appkit import AppKit, BaseTableModel
kit = AppKit(discover=False)
kit.app
packages = {"pyotp", "segno", "webauthn", "authlib", "prometheus_client", "starlette_admin"}
tables = {"totp", "recovery_code", "passkey", "passkey_challenge", "oauth_account", "oauth_flow"}
tables |= {"api_key", "audit_entry", "role", "user_role"}
print(tables & BaseTableModel.metadata.tables.keys(), packages & sys.modules.keys())
"""
    assert python(code).stdout.strip() == "set() set()"


def test_error_codes_of_plugins_are_in_the_reserved_ranges():
    for name in NAMES:
        import_module(f"appkit.contrib.{name}")
    codes = [code for code, cls in APIException.registry().items() if cls.__module__.startswith("appkit.contrib.")]
    assert codes
    assert all(50 <= code % 100 < 80 for code in codes)
