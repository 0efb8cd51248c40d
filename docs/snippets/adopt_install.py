"""An app that had a life before appkit."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from appkit import AppKit, CurrentUser


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.greeting = "Hello"
    yield


app = FastAPI(lifespan=lifespan)
kit = AppKit()
kit.install(app)  # /api/auth, /api/health and the rest, and everything that routes of your own may ask for


@app.get("/greeting")
async def greet(user: CurrentUser) -> str:
    return f"{app.state.greeting}, {user.email}"
