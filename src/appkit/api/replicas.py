"""Read-your-writes: a client that wrote reads from the primary for a while, on whichever instance it comes to."""

import math

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appkit.api.cookies import cookie_names
from appkit.core.settings import Settings
from appkit.repository.reading import Client, client


class ReadYourWritesMiddleware:
    """Gives who wrote a cookie that lasts as long as a replica may be behind (`DATABASE_REPLICA_LAG`).

    While it lasts, `ReadSession` reads from the primary. The cookie says nothing but this, so it isn't signed. Programs
    that keep no cookies read from a replica, and may miss for a moment what they wrote.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self._name = cookie_names(settings).access.removesuffix("_at") + "_wrote"
        self._age = math.ceil(settings.database.replica_lag)
        self._secure = settings.secure_cookies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        current = Client(wrote=self._name in HTTPConnection(scope).cookies)

        async def add_cookie(message: Message) -> None:
            if message["type"] == "http.response.start" and current.writes:
                MutableHeaders(scope=message).append("Set-Cookie", self._cookie())
            await send(message)

        token = client.set(current)
        try:
            await self.app(scope, receive, add_cookie)
        finally:
            client.reset(token)

    def _cookie(self) -> str:
        response = Response()
        response.set_cookie(self._name, "1", self._age, path="/", secure=self._secure, httponly=True, samesite="lax")
        return response.headers["set-cookie"]
