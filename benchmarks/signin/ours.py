"""appkit's app for the sign-in benchmark, which also measures how late its event loop is."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from threading import Thread

from fastapi import FastAPI

from appkit import AppKit, CurrentUser, Settings

TICK = 0.005

kit = AppKit(
    Settings(
        environment="production",
        database={"url": f"sqlite+aiosqlite:///{os.environ['BENCH_DATABASE']}", "migrate": "off"},
        auth={"secret_keys": [token_hex()], "bearer_enabled": True, "max_sessions": 10**6},
        limits={"enabled": False},
        logging={"level": "ERROR"},
        mail={"url": "memory://"},
    ),
    discover=False,
)
app = kit.app


@app.get("/ping")
async def ping() -> str:
    """Answer without any work."""
    return "pong"


@app.get("/me")
async def me(user: CurrentUser) -> str:
    """The current user, with a live sign-in session."""
    return user.email


late = {"loop": 0.0, "thread": 0.0}


@app.get("/late")
async def read_late() -> dict[str, float]:
    """The longest delays of the event loop and of a thread since the last call. The thread's is the machine's fault."""
    was = dict(late)
    late.update(loop=0.0, thread=0.0)
    return was


async def watch_loop() -> None:
    """Measure the event loop's delay."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(TICK)
        late["loop"] = max(late["loop"], time.perf_counter() - began - TICK)


def watch_machine() -> None:
    """Measure a thread's delay."""
    while True:
        began = time.perf_counter()
        time.sleep(TICK)
        late["thread"] = max(late["thread"], time.perf_counter() - began - TICK)


serving = app.router.lifespan_context


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Create the tables, and measure delays."""
    await kit.database.create_all()
    async with serving(app):
        watching = asyncio.create_task(watch_loop())
        Thread(target=watch_machine, daemon=True).start()
        yield
        watching.cancel()


app.router.lifespan_context = lifespan
