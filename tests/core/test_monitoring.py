"""Reports to Sentry: only if enabled, with the request's id, and without personal data."""

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sentry_sdk

from appkit.core import context, hookspecs
from appkit.core.monitoring import Monitoring
from appkit.core.settings import Settings
from appkit.exceptions import AppKitError
from appkit.plugins.manager import PluginManager


class Sentry(ThreadingHTTPServer):
    """A server that accepts reports as Sentry does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.events: list[dict[str, Any]] = []

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.server_port}/1"


class _Handler(BaseHTTPRequestHandler):
    server: Sentry

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        self.server.events += [item for line in body.splitlines() if "exception" in (item := json.loads(line))]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    """A server for reports. After the test, the process has no Sentry client."""
    with Sentry() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)
        server.shutdown()
        thread.join()


async def test_unhandled_exceptions_are_reported_with_the_request_id_and_without_personal_data(sentry: Sentry):
    settings = Settings(_env_file=None, sentry={"enabled": True, "dsn": sentry.dsn}, environment="test")
    plugins = PluginManager([hookspecs])
    plugins.register(Monitoring(settings))
    token = context.request_id.set("r1")
    try:
        password = "hunter{}".format(2)  # noqa: UP032  # The traceback shows this line.
        raise ValueError(len(password))  # noqa: TRY301
    except ValueError as exc:
        await plugins.notify("on_exception", exception=exc)
        await plugins.notify("on_exception", exception=exc)
    context.request_id.reset(token)
    sentry_sdk.flush()
    (event,) = sentry.events
    assert event["exception"]["values"][0]["type"] == "ValueError"
    assert event["tags"] == {"request_id": "r1"}
    assert event["environment"] == "test"
    assert "hunter2" not in json.dumps(event)
    assert not {"user", "request"} & set(event)
    assert event["breadcrumbs"] == {"values": []}


async def test_disabled_monitoring_reports_nothing(sentry: Sentry):
    settings = Settings(_env_file=None, sentry={"dsn": sentry.dsn})
    plugins = PluginManager([hookspecs])
    plugins.register(Monitoring(settings))
    await plugins.notify("on_exception", exception=ValueError())
    sentry_sdk.flush()
    assert sentry.events == []


def test_disabled_monitoring_imports_nothing():
    code = """
import sys
from appkit.core.monitoring import Monitoring
from appkit.core.settings import Settings
Monitoring(Settings(_env_file=None)).on_exception(ValueError())
assert not {"sentry_sdk", "structlog", "fastapi", "sqlalchemy", "taskiq"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_monitoring_without_a_dsn_names_the_variable():
    with pytest.raises(AppKitError, match="SENTRY_DSN is missing"):
        Monitoring(Settings(_env_file=None, sentry={"enabled": True}))


def test_monitoring_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(AppKitError, match=r"pip install 'fastapi-appkit\[sentry\]'"):
        Monitoring(Settings(_env_file=None, sentry={"enabled": True, "dsn": "http://key@localhost/1"}))
