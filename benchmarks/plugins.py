"""Benchmark of twenty idle plugins: the same requests to an app with and without them, in turn; see `--help`."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from fastapi import APIRouter
from httpx2 import ASGITransport, AsyncClient
from measure import Operation, Ratio, interleave, ratios, table, write_json

from appkit import AppKit, CurrentUser, DbSession, Settings, hookimpl
from appkit.core.settings import DatabaseSettings, LoggingSettings, TasksSettings

NONE, TWENTY = "no plugins", "twenty idle plugins"
TARGET = 1.05
PATHS = ("/api/plain", "/api/session", "/api/user")
ADA = {"email": "ada@example.com", "password": "correct horse battery"}

router = APIRouter()


@router.get("/plain")
async def plain() -> str:
    """Only the middleware."""
    return "plain"


@router.get("/session")
async def session(db: DbSession) -> bool:
    """With a database session."""
    return db.is_active


@router.get("/user")
async def user(user: CurrentUser) -> str:
    """With the current user."""
    return user.email


def idle_plugin(number: int) -> object:
    """A plugin that implements many hooks, none of which matters for these requests."""

    def contribute() -> None: ...

    async def observe() -> None: ...

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield

    hooks: dict[str, Any] = {
        "check_password": contribute,
        "lifespan": lifespan,
        "on_event": observe,
        "on_exception": observe,
        "register_commands": contribute,
        "register_health_checks": contribute,
        "register_routers": lambda: APIRouter(prefix=f"/idle{number}"),
        "register_tasks": contribute,
        "render_exception": observe,
        "token_claims": contribute,
    }
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


async def prepare(stack: AsyncExitStack, directory: Path, plugins: int) -> dict[str, Operation]:
    """Start an app, sign in, and return the requests to measure."""
    settings = Settings(
        environment="test",
        database=DatabaseSettings(url=f"sqlite:///{directory / f'{plugins}.db'}", migrate="off"),
        logging=LoggingSettings(level="ERROR"),
        tasks=TasksSettings(embedded=False),
    )
    kit = AppKit(settings, routers=[router], plugins=[idle_plugin(number) for number in range(plugins)], discover=False)
    app = kit.app
    await kit.database.create_all()
    await stack.enter_async_context(kit.lifespan(work=False))
    async with AsyncClient(transport=ASGITransport(app), base_url="https://localhost") as browser:
        (await browser.post("/api/auth/signup", json=ADA, headers={"Sec-Fetch-Site": "same-origin"})).raise_for_status()
        cookies = "; ".join(f"{name}={browser.cookies[name]}" for name in browser.cookies)
    return {path: _request(app, path, cookies) for path in PATHS}


def _request(app: Any, path: str, cookies: str) -> Operation:
    """A request as an ASGI server would pass it to the app."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"cookie", cookies.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 443),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message.get("status", 200) != 200:  # noqa: PLR2004 - a status code
            raise RuntimeError(f"{path} was answered with {message['status']}.")

    async def request() -> None:
        await app(dict(scope), receive, send)

    return request


async def measure(rounds: int) -> list[Ratio]:
    """Measure all requests."""
    found = []
    with TemporaryDirectory() as directory:
        async with AsyncExitStack() as stack:
            without = await prepare(stack, Path(directory), 0)
            twenty = await prepare(stack, Path(directory), 20)
            for path in PATHS:
                seconds = await interleave({NONE: without[path], TWENTY: twenty[path]}, rounds=rounds)
                found += ratios(f"GET {path}", "sqlite", seconds, (TWENTY, NONE, TARGET))
    return found


def main() -> int:
    """Measure and print. With `--check`, exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3000, help="requests of each kind to each app")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to this file")
    parser.add_argument("--check", action="store_true", help="fail when a target is missed")
    options = parser.parse_args()
    found = asyncio.run(measure(options.rounds))
    sys.stdout.write(table(found) + "\n")
    if options.json:
        write_json(options.json, found)
    return int(options.check and any(each.verdict == "over" for each in found))


if __name__ == "__main__":
    sys.exit(main())
