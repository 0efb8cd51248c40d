"""What tests of the HTTP layer share: a client for an app made in the test."""

from collections.abc import Callable

import pytest
from httpx2 import ASGITransport, AsyncClient
from starlette.types import ASGIApp


@pytest.fixture
def serve() -> Callable[..., AsyncClient]:
    """A client of an app; it gets the answers to bugs, rather than the exceptions."""

    def client(app: ASGIApp, base_url: str = "http://test", **options: object) -> AsyncClient:
        transport = ASGITransport(app, raise_app_exceptions=False)
        return AsyncClient(transport=transport, base_url=base_url, **options)  # type: ignore[arg-type] # Passed on.

    return client
