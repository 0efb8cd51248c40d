"""Fixtures for all tests, in addition to appkit's."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from appkit.testing.plugin import MakeUser
from httpx2 import AsyncClient

Write = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Use asyncio, which Taskiq requires."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def _one_loop(anyio_backend: str) -> None:
    """Keep one event loop for all tests: an async session fixture holds it open."""


@pytest.fixture
def write(auth_client: AsyncClient) -> Write:
    """A function that writes a post as `user`, and optionally publishes it."""

    async def write(title: str = "A title", *, content: str = "Some *words*.", publish: bool = False) -> dict[str, Any]:
        post = (await auth_client.post("/api/posts", json={"title": title, "content": content})).json()
        if publish:
            post = (await auth_client.post(f"/api/posts/{post['id']}/publish")).json()
        return dict(post)

    return write


@pytest.fixture
async def other(client: AsyncClient, make_user: MakeUser) -> AsyncClient:
    """An HTTP client signed in as another user."""
    somebody = {"email": "else@example.com", "password": "correct horse battery staple"}
    await make_user(somebody["email"], somebody["password"])
    assert (await client.post("/api/auth/signin", json=somebody)).is_success
    return client
