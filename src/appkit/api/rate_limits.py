"""Rate limits on routes."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends
from fastapi.requests import HTTPConnection

from appkit.api.client import client_address
from appkit.core.limits import parse_rule
from appkit.domain.events import RateLimited
from appkit.repository.context import AppContext
from appkit.service.base import BaseService


async def by_address(connection: HTTPConnection) -> str:
    """The key of limits for everybody: the client's address."""
    return client_address(connection)


def limit(rule: str, *, key: Callable[..., Any] = by_address) -> Callable[..., Awaitable[None]]:
    """A dependency that refuses a request with 429 when there were too many, for a route or for each of a router's.

        @router.post("/search", dependencies=[Depends(limit("30/minute"))])

    Each route counts for itself. Requests are counted before they are answered, however they end.

    Args:
        rule: How many in how long, as in `20/hour` or `5/10 minutes`.
        key: Whom to count for: a dependency that answers with a string, a number or a UUID.

    Raises:
        AppKitError: When the rule is none.
    """
    parse_rule(rule)

    async def check(connection: HTTPConnection, who: Annotated[Any, Depends(key)]) -> None:
        context: AppContext = connection.app.state.appkit
        await context.limiter.hit(rule, _route(connection), who)

    return check


async def tell_of_refusal(connection: HTTPConnection, action: str) -> None:
    """Say that somebody was turned away, once what their request had begun is rolled back."""
    context = getattr(connection.app.state, "appkit", None)
    if not isinstance(context, AppContext):
        return
    principal = getattr(connection.state, "principal", None)
    event = RateLimited(
        action=action, ip=client_address(connection), user_id=None if principal is None else principal.user_id
    )
    async with context.database.session() as db:
        BaseService(db).emit(event)


def _route(connection: HTTPConnection) -> str:
    """The route's method and its path as it was declared, with the prefixes of the routers around it."""
    scope = connection.scope
    route: Any = scope.get("fastapi", {}).get("effective_route_context") or scope["route"]
    return f"{scope.get('method', 'WEBSOCKET')} {route.path}"
