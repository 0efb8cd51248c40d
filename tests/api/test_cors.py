"""Scripts of other sites read nothing, unless settings name their origin."""

import pytest
from httpx2 import AsyncClient

FRIEND = "https://friend.example.com"


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"cors": settings.cors.model_copy(update={"origins": (FRIEND,)})})


async def preflight(client: AsyncClient, origin: str) -> str | None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return (await client.options("/api/auth/signin", headers=asked)).headers.get("access-control-allow-origin")


async def test_configured_origin_may_read(client):
    assert await preflight(client, FRIEND) == FRIEND
    answer = await client.get("/api/ping", headers={"Origin": FRIEND})
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert answer.headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "http://friend.example.com", f"{FRIEND}.evil.com", "null"]
)
async def test_other_origins_may_not(client, origin):
    assert await preflight(client, origin) is None
    assert "access-control-allow-origin" not in (await client.get("/api/ping", headers={"Origin": origin})).headers
