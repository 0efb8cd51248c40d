"""The desk's own tests: appkit's fixtures, and two people to write with."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from appkit.testing.plugin import MakeUser
from httpx2 import AsyncClient

Write = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asyncio, as Taskiq needs it."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def _one_loop(anyio_backend: str) -> None:
    """One event loop for all tests: an async fixture of the session keeps it open."""


@pytest.fixture
def write(auth_client: AsyncClient) -> Write:
    """Write a post as `user`, and publish it where asked."""

    async def write(title: str = "A title", *, content: str = "Some *words*.", publish: bool = False) -> dict[str, Any]:
        post = (await auth_client.post("/api/posts", json={"title": title, "content": content})).json()
        if publish:
            post = (await auth_client.post(f"/api/posts/{post['id']}/publish")).json()
        return dict(post)

    return write


@pytest.fixture
async def other(client: AsyncClient, make_user: MakeUser) -> AsyncClient:
    """A browser in which somebody else is signed in."""
    somebody = {"email": "else@example.com", "password": "correct horse battery staple"}
    await make_user(somebody["email"], somebody["password"])
    assert (await client.post("/api/auth/signin", json=somebody)).is_success
    return client
