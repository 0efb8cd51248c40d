"""In development, points at routes that run one statement again and again, as for each row of a list (N+1)."""

import logging
from collections import Counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appkit.api.middleware import route_path
from appkit.repository.database import Database
from appkit.repository.engines import count_statements, statements

_ENOUGH: Final = 10
_STREAM: Final = (b"content-type", b"text/event-stream; charset=utf-8")

_logger = logging.getLogger(__name__)


class RepeatedQueriesMiddleware:
    """Logs each statement that ran more than ten times for one request, with the route and how often.

    The statement is logged without its values, which may be anybody's.
    """

    def __init__(self, app: ASGIApp, *, database: Database) -> None:
        self.app = app
        for engine in database.engines:
            count_statements(engine)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        counter: Counter[str] = Counter()
        token, follows = statements.set(counter), False

        async def watch(message: Message) -> None:
            """Whoever follows a stream has the same asked again and again, and means to."""
            nonlocal follows
            follows |= _STREAM in message.get("headers", ())
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            statements.reset(token)
            for statement, count in counter.items():
                if count > _ENOUGH and not follows:
                    _warn(scope, statement, count)


def _warn(scope: Scope, statement: str, count: int) -> None:
    _logger.warning(
        "One statement ran %s times for one request. Ask for all rows at once: selectinload() for a relationship, "
        "in_() for the rest.",
        count,
        extra={
            "method": scope["method"],
            "path": route_path(scope),
            "statement": " ".join(statement.split()),
            "count": count,
        },
    )
