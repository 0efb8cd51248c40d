"""The plugin's own test."""

import appkit_audit
import pytest
from httpx2 import AsyncClient

from appkit import AppKit, Settings
from appkit.testing.tasks import Tasks


@pytest.fixture
def kit(settings: Settings) -> AppKit:
    return AppKit(settings, plugins=[appkit_audit], discover=False)


async def test_signing_in_is_kept(auth_client: AsyncClient, tasks: Tasks) -> None:
    await tasks.run()
    assert "UserSignedIn" in (await auth_client.get("/api/audit")).text
