"""Health routes: name and version, ping, liveness and readiness."""

import asyncio
import logging
from typing import Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from appkit.api.dependencies import app_of
from appkit.api.errors import errors
from appkit.api.hookspecs import HealthCheck
from appkit.api.problems import problem
from appkit.exceptions import ServiceUnavailableException
from appkit.repository.context import AppContext

logger: Final = logging.getLogger("appkit.health")
health_router: Final = APIRouter(tags=["health"])

CHECK_TIMEOUT: Final = 2.0
"""Timeout of a health check, in seconds."""

State = Literal["ok", "failed"]


class About(BaseModel):
    """The name and the version of the app."""

    name: str
    version: str
    docs: str
    status: Literal["ok"] = "ok"


class Health(BaseModel):
    """Liveness: whether the process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Readiness: the results of the health checks."""

    status: State
    checks: dict[str, State]
    failed_plugins: list[str]


@health_router.get("/")
async def show_about(request: Request) -> About:
    """The name and the version of the app, and the path of its docs."""
    settings = app_of(request).settings
    docs = f"{request.scope.get('root_path', '')}{settings.api_prefix}/docs"
    return About(name=settings.app_name, version=request.app.version, docs=docs)


@health_router.get("/ping")
async def ping() -> Literal["pong"]:
    """Answer `pong`."""
    return "pong"


@health_router.get("/health")
async def show_health() -> Health:
    """Liveness. Restart the process only when this route doesn't answer."""
    return Health()


@health_router.get("/health/ready", response_model=Readiness, responses=errors(ServiceUnavailableException))
async def show_readiness(request: Request) -> Readiness | Response:
    """Readiness. The status is 503 when something that the app needs, such as its database, doesn't answer."""
    context = app_of(request)
    checks: list[HealthCheck] = context.plugins.collect("register_health_checks")
    states = await asyncio.gather(*(_state(check, context) for check in checks))
    names = [check.name for check in checks]
    failed_plugins = sorted(context.plugins.failed)
    broken = "failed" in states or (failed_plugins and context.settings.plugins.strict)
    readiness = Readiness(status="ok", checks=dict(zip(names, states, strict=True)), failed_plugins=failed_plugins)
    if not broken:
        return readiness
    unavailable = ServiceUnavailableException("Something that the app needs does not answer.")
    unavailable.extra = readiness.model_dump(exclude={"status"})
    return problem(request, unavailable)


async def _state(check: HealthCheck, context: AppContext) -> State:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            await check.check(context)
    except Exception:
        logger.warning("health_check_failed", extra={"check": check.name}, exc_info=True)
        return "failed"
    return "ok"
