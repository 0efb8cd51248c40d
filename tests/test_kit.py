"""The composition root: what a kit puts together, and what two of them share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from sqlalchemy import func, select

from appkit.core.settings import Settings
from appkit.domain.events import UserSignedUp
from appkit.kit import AppKit

SIGNUP = {"email": "ada@example.com", "password": "correct horse battery"}


def settings_in(directory: Path, **values: Any) -> Settings:
    directory.mkdir(exist_ok=True)
    return Settings(
        _env_file=None,
        environment="test",
        database={"url": f"sqlite+aiosqlite:///{directory / 'app.db'}"},
        auth={"secret_keys": [f"{directory.name:x<64}0123456789"]},
        mail={"url": "memory://"},
        **values,
    )


@asynccontextmanager
async def browser(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="https://testserver") as client,
    ):
        yield client


async def test_two_kits_share_no_data_settings_or_plugins(tmp_path: Path) -> None:
    """Each has a database, keys, plugins and a prefix of its own; what Python classes share, they share."""
    one = AppKit(settings_in(tmp_path / "one", app_name="One"), discover=False)
    two = AppKit(settings_in(tmp_path / "two", app_name="Two", api_prefix="/v2"), discover=False)
    told: list[str] = []

    @one.on(UserSignedUp)
    async def welcome(event: UserSignedUp) -> None:
        told.append("one")

    async with browser(one.app) as first, browser(two.app) as second:
        assert (await first.post("/api/auth/signup", json=SIGNUP)).status_code == 201
        assert (await second.post("/v2/auth/signup", json=SIGNUP)).status_code == 201

        foreign = {name: first.cookies[name] for name in first.cookies}
        answer = await second.get("/v2/auth/me", headers={"Cookie": "; ".join(f"{k}={v}" for k, v in foreign.items())})

    assert answer.status_code == 401
    assert one.database is not two.database
    assert one.plugins is not two.plugins
    assert one.context.user_model is two.context.user_model


async def test_a_kit_installs_into_an_app_of_ones_own(tmp_path: Path) -> None:
    started: list[str] = []

    @asynccontextmanager
    async def own_lifespan(app: FastAPI) -> AsyncIterator[None]:
        started.append("own")
        yield

    app = FastAPI(lifespan=own_lifespan)

    @app.get("/mine")
    async def mine() -> str:
        return "mine"

    kit = AppKit(settings_in(tmp_path), discover=False)
    kit.install(app)

    async with browser(app) as client:
        assert (await client.get("/mine")).json() == "mine"
        assert (await client.post("/api/auth/signup", json=SIGNUP)).status_code == 201
    assert started == ["own"]


async def test_routes_added_after_the_kit_are_served(tmp_path: Path) -> None:
    router = APIRouter()
    kit = AppKit(settings_in(tmp_path), routers=[router], discover=False)

    @router.get("/late")
    async def late() -> str:
        return "late"

    async with browser(kit.app) as client:
        assert (await client.get("/api/late")).json() == "late"


async def test_an_unknown_path_under_the_prefix_is_a_problem(tmp_path: Path) -> None:
    """Even when a frontend is served, whose index page answers every other path."""
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "index.html").write_text("<!doctype html><title>Shop</title>")
    kit = AppKit(settings_in(tmp_path, frontend={"dist": dist}), discover=False)

    async with browser(kit.app) as client:
        page = await client.get("/orders/7", headers={"Accept": "text/html"})
        missing = await client.get("/api/orders", headers={"Accept": "text/html"})

    assert "Shop" in page.text
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"


async def add_and_fail(kit: AppKit) -> None:
    async with kit.session() as db:
        db.add(kit.context.user_model(email="a@example.com", email_key="a@example.com"))
        await db.flush()
        raise ZeroDivisionError


async def test_a_session_commits_at_the_end_and_forgets_what_failed(tmp_path: Path) -> None:
    kit = AppKit(settings_in(tmp_path), discover=False)
    async with kit.lifespan(work=False):
        with pytest.raises(ZeroDivisionError):
            await add_and_fail(kit)
        async with kit.session() as db:
            assert await db.scalar(select(func.count()).select_from(kit.context.user_model)) == 0


def test_nothing_is_built_before_it_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kit in a module reads no settings, opens no file and makes no secret when it is imported."""
    monkeypatch.chdir(tmp_path)
    AppKit()
    assert list(tmp_path.iterdir()) == []
