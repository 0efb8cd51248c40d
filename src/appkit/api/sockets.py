"""Websockets that stay open: whether who opened them is still signed in."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Final

from fastapi import Depends
from starlette.websockets import WebSocket, WebSocketState

from appkit.api.dependencies import CurrentPrincipal, CurrentUser, app_of
from appkit.exceptions import UnauthorizedException
from appkit.repository.user import BaseUser
from appkit.service.auth import AuthService
from appkit.service.principals import Principal

POLICY_VIOLATION: Final = 1008

_logger: Final = logging.getLogger(__name__)


async def watch_user(socket: WebSocket, user: CurrentUser, principal: CurrentPrincipal) -> AsyncIterator[BaseUser]:
    """The person who opened a websocket, which is closed once their session has ended."""
    watching = asyncio.create_task(_watch(socket, principal))
    try:
        yield user
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


SocketUser = Annotated[BaseUser, Depends(watch_user)]
"""The person who opened a websocket, which is closed with 1008 once their session has ended: it is looked at every
`AUTH_SOCKET_CHECK` seconds. `CurrentUser` looks only when the websocket is opened."""


async def _watch(socket: WebSocket, principal: Principal) -> None:
    app = app_of(socket)
    try:
        while True:
            await asyncio.sleep(app.settings.auth.socket_check)
            async with app.database.read_session(primary=True) as db:
                await AuthService(db).user(principal)
    except Exception as exc:
        if not isinstance(exc, UnauthorizedException):
            _logger.exception("Whether a websocket's session is live can't be told, so it is closed.")
        if socket.application_state is not WebSocketState.DISCONNECTED:
            await socket.close(POLICY_VIOLATION, "Signed out.")
