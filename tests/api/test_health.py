"""The app says what it is, that it lives, and whether it can do its work."""

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient

from appkit.api.errors import install_error_handlers
from appkit.api.hookspecs import HealthCheck
from appkit.api.routes import health
from appkit.api.routes.health import health_router
from appkit.core.settings import PluginsSettings, Settings
from appkit.kit import HOOKS
from appkit.plugins.manager import PluginManager
from appkit.plugins.markers import hookimpl

Serve = Callable[..., AsyncClient]


def build(*checks: HealthCheck, failed: tuple[str, ...] = (), strict: bool = False) -> FastAPI:
    class Checks:
        @hookimpl
        def register_health_checks(self) -> list[HealthCheck]:
            return list(checks)

    settings = Settings(app_name="desk", plugins=PluginsSettings(strict=strict))
    plugins = PluginManager(HOOKS, strict=strict)
    plugins.register(Checks())
    plugins.failed |= {name: ImportError("/secret/path") for name in failed}
    app = FastAPI(version="1.2.3")
    app.state.appkit = SimpleNamespace(settings=settings, plugins=plugins)
    install_error_handlers(app)
    app.include_router(health_router, prefix="/api")
    return app


async def works(_: Any) -> None: ...


async def breaks(_: Any) -> None:
    raise ConnectionError("postgresql://ann:hunter2@db")


async def hangs(_: Any) -> None:
    await asyncio.sleep(60)


async def test_root_has_name_and_version(serve: Serve):
    answer = await serve(build()).get("/api/")
    assert answer.json() == {"name": "desk", "version": "1.2.3", "docs": "/api/docs", "status": "ok"}


async def test_ping_is_answered(serve: Serve):
    assert (await serve(build()).get("/api/ping")).json() == "pong"


async def test_liveness_does_not_depend_on_the_database(serve: Serve):
    answer = await serve(build(HealthCheck("database", breaks))).get("/api/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_app_is_ready_when_all_checks_pass(serve: Serve):
    app = build(HealthCheck("database", works), HealthCheck("broker", works))
    answer = await serve(app).get("/api/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "checks": {"database": "ok", "broker": "ok"}, "failed_plugins": []}


async def test_app_is_not_ready_when_a_check_fails(serve: Serve, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    app = build(HealthCheck("database", breaks), HealthCheck("broker", works))
    answer = await serve(app).get("/api/health/ready")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["internal_code"] == 50050
    assert answer.json()["checks"] == {"database": "failed", "broker": "ok"}
    assert "hunter2" not in answer.text
    assert [vars(record)["check"] for record in caplog.records] == ["database"]


async def test_hanging_health_check_fails_after_the_timeout(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "CHECK_TIMEOUT", 0.01)
    app = build(*(HealthCheck(f"slow{number}", hangs) for number in range(3)))
    answer = await serve(app).get("/api/health/ready")
    assert answer.json()["checks"] == {"slow0": "failed", "slow1": "failed", "slow2": "failed"}


@pytest.mark.parametrize(("strict", "status"), [(False, 200), (True, 503)])
async def test_plugin_that_failed_is_listed_and_counts_only_when_strict(serve: Serve, status: int, *, strict: bool):
    answer = await serve(build(failed=("billing", "audit"), strict=strict)).get("/api/health/ready")
    assert answer.status_code == status
    assert answer.json()["failed_plugins"] == ["audit", "billing"]
    assert "secret" not in answer.text
