"""The plugin metrics, on both databases, parsed as Prometheus does."""

import asyncio
from uuid import uuid4

import pytest
from fastapi import APIRouter
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from appkit.contrib import metrics
from appkit.contrib.metrics import MetricsSettings
from appkit.domain.events import UserSignedUp
from appkit.exceptions import NotFoundException, UnauthorizedException
from appkit.kit import AppKit
from appkit.testing.kits import rebuilt
from appkit.testing.plugin import PASSWORD

router = APIRouter(prefix="/probe")


@router.get("/items/{item_id}")
async def read_item(item_id: int) -> int:
    return item_id


@router.get("/broken")
async def fail() -> None:
    raise RuntimeError


@pytest.fixture
def kit(settings):
    with rebuilt(AppKit(routers=[router], plugins=[metrics], discover=False), settings) as kit:
        yield kit


@pytest.fixture
def figure(client):
    """The value of a metric, or None."""

    async def figure(name, **labels):
        response = await client.get("/api/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        samples = [sample for family in text_string_to_metric_families(response.text) for sample in family.samples]
        return next((each.value for each in samples if each.name == name and each.labels == labels), None)

    return figure


async def test_requests_are_counted_by_route_and_status(client, figure):
    for item_id in (1, 2, "no-number"):
        await client.get(f"/api/probe/items/{item_id}")
    await client.get("/api/nowhere/else")
    await client.request("BREW", "/api/probe/items/1")
    path = "/api/probe/items/{item_id}"
    assert await figure("appkit_requests_total", method="GET", path=path, status="200") == 2
    assert await figure("appkit_requests_total", method="GET", path=path, status="422") == 1
    assert await figure("appkit_requests_total", method="other", path=path, status="405") == 1
    assert await figure("appkit_request_seconds_count", method="GET", path=path) == 3
    (await client.get("/api/metrics")).text.index('status="404"')
    assert "nowhere" not in (await client.get("/api/metrics")).text


async def test_failed_request_is_a_500(client, figure):
    with pytest.raises(RuntimeError):
        await client.get("/api/probe/broken")
    assert await figure("appkit_requests_total", method="GET", path="/api/probe/broken", status="500") == 1


async def test_sign_ins_are_counted_as_requests(auth_client, user, figure):
    await auth_client.post("/api/auth/signin", json={"email": user.email, "password": "wrong and long"})
    path = "/api/auth/signin"
    assert await figure("appkit_requests_total", method="POST", path=path, status="200") == 1
    assert await figure("appkit_requests_total", method="POST", path=path, status="401") == 1


async def test_connections_and_tasks_are_counted(kit, figure, user):
    async with kit.session() as db:
        await db.connection()
        assert await figure("appkit_database_connections", state="used") >= 2  # Of the test and of the request.
    assert await figure("appkit_tasks_dead") == 0
    assert await figure("appkit_tasks_oldest_pending_seconds") >= 0


async def test_two_apps_have_separate_metrics(client, figure, settings):
    with rebuilt(AppKit(plugins=[metrics], discover=False), settings) as other:
        other.app.build_middleware_stack()  # Starlette does this on the first request.
    await client.get("/api/ping")
    assert await figure("appkit_requests_total", method="GET", path="/api/ping", status="200") == 1


async def test_metrics_require_the_token(kit, client, assert_error):
    own = MetricsSettings(token=SecretStr("a secret of Prometheus'"))
    kit.context.settings = kit.settings.model_copy(update={"metrics": own})
    assert_error(await client.get("/api/metrics"), UnauthorizedException)
    assert_error(await client.get("/api/metrics", headers={"Authorization": "Bearer wrong"}), UnauthorizedException)
    sent = {"Authorization": "Bearer a secret of Prometheus'"}
    assert (await client.get("/api/metrics", headers=sent)).status_code == 200


async def test_metrics_are_a_404_in_production_without_a_token(kit, client, assert_error):
    kit.context.settings = kit.settings.model_copy(update={"environment": "production"})
    assert_error(await client.get("/api/metrics"), NotFoundException)


async def test_sign_in_events_are_counted(kit, client, user, figure, tasks):
    account = {"email": user.email, "password": PASSWORD}
    for password in ("wrong horse", PASSWORD, "wrong horse"):
        await client.post("/api/auth/signin", json=account | {"password": password})
    await client.post("/api/auth/signup", json=account | {"email": "new@example.com"})
    await client.post("/api/auth/signout")
    await tasks.run()
    names = ("UserCreated", "UserSignedUp", "UserSignedIn", "SigninFailed", "UserSignedOut")
    assert [await figure("appkit_events_total", event=name) for name in names] == [2, 1, 2, 2, 1]
    kit.settings.limits.__dict__["enabled"] = True
    for _ in range(8):
        await client.post("/api/auth/signin", json=account | {"password": "wrong horse"})
    await tasks.run()
    assert await figure("appkit_events_total", event="SigninFailed") == 7
    assert await figure("appkit_events_total", event="RateLimited") == 1


@pytest.mark.both_databases
async def test_parallel_events_are_all_counted(kit, app, figure):
    await asyncio.gather(*(metrics.on_event(kit, UserSignedUp(user_id=uuid4())) for _ in range(12)))
    assert await figure("appkit_events_total", event="UserSignedUp") == 12
