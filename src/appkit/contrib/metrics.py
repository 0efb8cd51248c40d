"""Prometheus metrics of requests, database connections, tasks and events.

Turn it on with `AppKit(plugins=[metrics])`, and install `fastapi-appkit[metrics]`.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import SecretStr
from sqlalchemy import BigInteger, String, select
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.pool import QueuePool
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appkit import (
    AppContext,
    AppKit,
    BaseTableModel,
    Event,
    ReadSession,
    Repository,
    SettingsGroup,
    TaskService,
    TaskStats,
    app_of,
    errors,
    hookimpl,
    route_path,
)
from appkit.contrib import required_by
from appkit.exceptions import NotFoundException, UnauthorizedException

with required_by("metrics"):
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SCOPE: Final = "appkit.metrics"


class MetricsSettings(SettingsGroup):
    """Prometheus metrics."""

    token: SecretStr | None = None
    """The token that Prometheus sends as `Authorization: Bearer …`. If unset, `/metrics` is a 404 in production."""


class EventCount(BaseTableModel):
    """The count of an event. It is in the database, because all processes add to the same count."""

    name: Mapped[str] = mapped_column(String(255), unique=True)
    """The event's class, as in `UserSignedIn`."""
    count: Mapped[int] = mapped_column(BigInteger)


class MetricsMiddleware:
    """Counts and times requests by the route's path template, because a URL may contain ids."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._registry = CollectorRegistry()  # Per app, because one process may have several.
        labels = ("method", "path", "status")
        self._requests = Counter("appkit_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            "appkit_request_seconds", "Time to answer a request.", ("method", "path"), registry=self._registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and count it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        scope[_SCOPE] = self._registry

        async def send_and_record(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_record)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"  # A client may send any word.
            path = route_path(scope)
            self._requests.labels(method, path, status).inc()
            self._seconds.labels(method, path).observe(time.perf_counter() - started)


@dataclass
class AppCollector(Collector):
    """Current values: database connections, tasks and event counts."""

    app: AppContext
    tasks: TaskStats
    events: Mapping[str, int]

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        connections = GaugeMetricFamily("appkit_database_connections", "Database connections.", labels=("state",))
        pools = [engine.pool for engine in self.app.database.engines if isinstance(engine.pool, QueuePool)]
        connections.add_metric(["used"], sum(pool.checkedout() for pool in pools))
        connections.add_metric(["idle"], sum(pool.checkedin() for pool in pools))
        yield connections
        depth = GaugeMetricFamily("appkit_tasks", "Tasks by state.", labels=("queue", "state"))
        for queue, states in self.tasks.depth.items():
            for state, count in states.items():
                depth.add_metric([queue, state], count)
        yield depth
        waiting = "Seconds that the oldest due task has been waiting."
        yield GaugeMetricFamily("appkit_tasks_oldest_pending_seconds", waiting, self.tasks.oldest_pending)
        yield GaugeMetricFamily("appkit_tasks_dead", "Tasks that failed permanently.", self.tasks.dead)
        rescued = "Tasks rescued from a dead worker and not done yet."
        yield GaugeMetricFamily("appkit_tasks_rescued", rescued, self.tasks.rescued)
        events = CounterMetricFamily("appkit_events", "Events emitted, by class.", labels=("event",))
        for name, count in self.events.items():
            events.add_metric([name], count)
        yield events


router = APIRouter(tags=["health"])


def check_token(request: Request) -> None:
    """Check the bearer token.

    Raises:
        NotFoundException: In production, when `METRICS_TOKEN` is unset.
        UnauthorizedException: When the token is missing or wrong.
    """
    settings = app_of(request).settings
    token = settings.group(MetricsSettings).token
    if token is None and settings.production:
        raise NotFoundException
    sent = request.headers.get("authorization", "").partition(" ")[2]
    if token is not None and not compare_digest(sent.encode(), token.get_secret_value().encode()):
        raise UnauthorizedException


@router.get(
    "/metrics",
    dependencies=[Depends(check_token)],
    response_class=Response,
    responses=errors(UnauthorizedException, NotFoundException),
)
async def read_metrics(request: Request, db: ReadSession) -> Response:
    """The metrics, in the Prometheus text format."""
    rows = await db.execute(select(EventCount.name, EventCount.count).order_by(EventCount.name))
    current = AppCollector(app_of(request), await TaskService(db).stats(), dict(rows.all()))
    text = generate_latest(request.scope[_SCOPE]) + generate_latest(current)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """Read `METRICS_…`."""
    return {"metrics": MetricsSettings}


@hookimpl
def register_middleware() -> list[Middleware]:
    """Add the middleware that counts requests."""
    return [Middleware(MetricsMiddleware)]


@hookimpl
def register_routers() -> list[APIRouter]:
    """Serve `/metrics`."""
    return [router]


@hookimpl
async def on_event(kit: AppKit, event: Event) -> None:
    """Count an event. A retried task may count its event twice, because delivery is at least once."""
    name = type(event).__name__
    async with kit.session() as db:
        counts = Repository[EventCount](db)
        await counts.get_or_create({"name": name, "count": 0}, on=[EventCount.name])
        await counts.update_where(EventCount.name == name, values={"count": EventCount.count + 1})
