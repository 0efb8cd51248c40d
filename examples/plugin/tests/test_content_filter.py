"""The filter, at the desk that it is for."""

import pytest
from appkit import AppKit, Settings
from httpx2 import AsyncClient

from desk_content_filter import ContentFilterSettings, RefusedWordException, find_idle

WORDS = ContentFilterSettings(words=("heck", "darn it"))
POST = {"title": "A title", "content": "Some words."}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"content_filter": WORDS})


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def test_filter_is_found_because_it_is_installed(kit: AppKit) -> None:
    assert "content_filter" in kit.plugins.names()


@pytest.mark.parametrize(("name", "text"), [("title", "What the heck"), ("content", "So: DARN IT!")])
async def test_post_with_a_word_is_refused_and_named(auth_client: AsyncClient, assert_error, name, text) -> None:
    problem = assert_error(await auth_client.post("/api/posts", json={**POST, name: text}), RefusedWordException)
    assert problem["detail"].lower().startswith(("“heck” is not", "“darn it” is not"))


async def test_comments_and_changes_are_looked_at_too(auth_client: AsyncClient, assert_error) -> None:
    post = (await auth_client.post("/api/posts", json=POST)).json()
    url = f"/api/posts/{post['id']}"
    await auth_client.post(f"{url}/publish")
    assert_error(await auth_client.post(f"{url}/comments", json={"content": "heck"}), RefusedWordException)
    assert_error(await auth_client.patch(url, json={"content": "heck"}), RefusedWordException)
    assert (await auth_client.post(f"{url}/comments", json={"content": "heckler"})).status_code == 201


async def test_check_says_when_there_is_nothing_to_look_for(kit: AppKit, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_idle(kit) == []
    idle = kit.settings.model_copy(update={"content_filter": ContentFilterSettings()})
    monkeypatch.setattr(kit, "settings", idle)
    assert find_idle(kit) == ["CONTENT_FILTER_WORDS is empty"]
