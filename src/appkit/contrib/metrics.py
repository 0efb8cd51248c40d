"""Figures for Prometheus: requests, the connections to the database, the tasks, and what happened.

Turn it on with `AppKit(plugins=[metrics])`, and install `fastapi-appkit[metrics]`.
"""

import time
from collections.abc import Iterator, Mapping
from hmac import compare_digest
from typing import Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import SecretStr
from sqlalchemy import BigInteger, String, select, update
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
    TaskFigures,
    TaskService,
    app_of,
    errors,
    hookimpl,
    route_path,
)
from appkit.exceptions import AppKitError, NotFoundException, UnauthorizedException

try:
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as exc:
    raise AppKitError(
        "The plugin metrics needs prometheus-client, which is not installed. "
        "Install it: pip install 'fastapi-appkit[metrics]'."
    ) from exc

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SCOPE: Final = "appkit.metrics"


class MetricsSettings(SettingsGroup):
    """Figures for Prometheus."""

    token: SecretStr | None = None
    """What Prometheus sends as `Authorization: Bearer …`; unless set, there are no figures in production."""


class EventCount(BaseTableModel):
    """How often something happened. Any process may hear of it, and any may be asked, so it is kept for all."""

    name: Mapped[str] = mapped_column(String(255), unique=True)
    """The event's class, as in `UserSignedIn`."""
    count: Mapped[int] = mapped_column(BigInteger)


class MetricsMiddleware:
    """Counts requests and takes their time, by the route's path, so that there are as many series as routes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._registry = CollectorRegistry()  # The app's own: another one in this process has another.
        labels = ("method", "path", "status")
        self._requests = Counter("appkit_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            "appkit_request_seconds", "How long an answer took.", ("method", "path"), registry=self._registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        scope[_SCOPE] = self._registry

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"  # A caller may make words up.
            path = route_path(scope)
            self._requests.labels(method, path, status).inc()
            self._seconds.labels(method, path).observe(time.perf_counter() - started)


class AppFigures(Collector):
    """What is known at the moment of the database's connections, the tasks and the events."""

    def __init__(self, app: AppContext, tasks: TaskFigures, events: Mapping[str, int]) -> None:
        self._app = app
        self._tasks = tasks
        self._events = events

    def collect(self) -> Iterator[Metric]:
        """The figures."""
        connections = GaugeMetricFamily("appkit_database_connections", "Connections.", labels=("state",))
        pools = [engine.pool for engine in self._app.database.engines if isinstance(engine.pool, QueuePool)]
        connections.add_metric(["used"], sum(pool.checkedout() for pool in pools))
        connections.add_metric(["idle"], sum(pool.checkedin() for pool in pools))
        yield connections
        depth = GaugeMetricFamily("appkit_tasks", "Tasks that are kept.", labels=("queue", "state"))
        for queue, states in self._tasks.depth.items():
            for state, count in states.items():
                depth.add_metric([queue, state], count)
        yield depth
        waiting = "Seconds that the first task that could run has been waiting."
        yield GaugeMetricFamily("appkit_tasks_oldest_pending_seconds", waiting, self._tasks.oldest_pending)
        yield GaugeMetricFamily("appkit_tasks_dead", "Tasks that failed for good.", self._tasks.dead)
        rescued = "Tasks that a process left behind, and that have not been done since."
        yield GaugeMetricFamily("appkit_tasks_rescued", rescued, self._tasks.rescued)
        events = CounterMetricFamily("appkit_events", "What happened, by the event's class.", labels=("event",))
        for name, count in self._events.items():
            events.add_metric([name], count)
        yield events


router = APIRouter(tags=["health"])


def check_token(request: Request) -> None:
    """See that Prometheus asks.

    Raises:
        NotFoundException: In production, when there is no `METRICS_TOKEN`.
        UnauthorizedException: When it is not what was sent.
    """
    settings = app_of(request).settings
    token = settings.group(MetricsSettings).token
    if token is None:
        if settings.production:
            raise NotFoundException
        return
    sent = request.headers.get("authorization", "").partition(" ")[2]
    if not compare_digest(sent.encode(), token.get_secret_value().encode()):
        raise UnauthorizedException


@router.get(
    "/metrics",
    dependencies=[Depends(check_token)],
    response_class=Response,
    responses=errors(UnauthorizedException, NotFoundException),
)
async def read_metrics(request: Request, db: ReadSession) -> Response:
    """The figures, as Prometheus reads them."""
    moment = CollectorRegistry()
    rows = await db.execute(select(EventCount.name, EventCount.count).order_by(EventCount.name))
    figures = AppFigures(app_of(request), await TaskService(db).figures(), dict(rows.all()))
    moment.register(figures)
    text = generate_latest(request.scope[_SCOPE]) + generate_latest(moment)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """`METRICS_…`."""
    return {"metrics": MetricsSettings}


@hookimpl
def register_middleware() -> list[Middleware]:
    """What counts the requests."""
    return [Middleware(MetricsMiddleware)]


@hookimpl
def register_routers() -> list[APIRouter]:
    """`/metrics`."""
    return [router]


@hookimpl
async def on_event(kit: AppKit, event: Event) -> None:
    """Count an event; one that is told of twice, as happens when a process dies over it, counts twice."""
    name = type(event).__name__
    async with kit.session() as db:
        await Repository[EventCount](db).get_or_create({"name": name, "count": 0}, on=[EventCount.name])
        await db.execute(update(EventCount).where(EventCount.name == name).values(count=EventCount.count + 1))
