"""A built frontend is served beside the API, and neither takes the other's place."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient

from appkit.core.settings import FrontendSettings, Settings
from appkit.kit import AppKit

Serve = Callable[..., AsyncClient]
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<title>Desk</title>")
    (tmp_path / "theme.js").write_text("1")
    (tmp_path / "assets" / "index-a1b2.js").write_text("2")
    return AppKit(Settings(frontend=FrontendSettings(dist=tmp_path)), discover=False).app


@pytest.mark.parametrize("path", ["/", "/posts/7", "/apiary"])
async def test_every_page_is_the_index(app: FastAPI, serve: Serve, path: str):
    answer = await serve(app).get(path, headers=BROWSER)
    assert (answer.status_code, answer.text) == (200, "<title>Desk</title>")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")


async def test_files_are_asked_about_and_hashed_ones_are_not(app: FastAPI, serve: Serve):
    plain, hashed = await serve(app).get("/theme.js"), await serve(app).get("/assets/index-a1b2.js")
    assert plain.headers["cache-control"] == "no-cache"
    assert hashed.headers["cache-control"] == "public, max-age=31536000, immutable"
    again = await serve(app).get("/theme.js", headers={"If-None-Match": plain.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "path", ["/assets/index-old.js", "/assets/%2e%2e/%2e%2e/etc/passwd", "/api/typo", "/api/typo/"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_is_missing_is_no_page(app: FastAPI, serve: Serve, method: str, path: str):
    answer = await serve(app).request(method, path, headers=BROWSER)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_route_for_another_method_is_405(app: FastAPI, serve: Serve):
    """A link or a picture can make a browser send a GET: none of these changes anything."""
    for path in ("/api/auth/signin", "/api/auth/signout", "/api/auth/refresh"):
        answer = await serve(app).get(path, headers=BROWSER)
        assert (answer.status_code, answer.json()["internal_code"]) == (405, 40000)
        assert answer.headers["allow"] == "POST"


def test_missing_build_stops_the_start(tmp_path: Path):
    with pytest.raises(RuntimeError, match="does not exist"):
        _ = AppKit(Settings(frontend=FrontendSettings(dist=tmp_path / "dist")), discover=False).app
