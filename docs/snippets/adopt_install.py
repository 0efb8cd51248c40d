"""An existing FastAPI app with its own lifespan."""

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
kit.install(app)  # adds /api/auth, /api/health and the other routes, and the dependencies for your own routes


@app.get("/greeting")
async def greet(user: CurrentUser) -> str:
    return f"{app.state.greeting}, {user.email}"
