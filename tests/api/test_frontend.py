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
async def test_every_page_path_serves_the_index(app: FastAPI, serve: Serve, path: str):
    answer = await serve(app).get(path, headers=BROWSER)
    assert (answer.status_code, answer.text) == (200, "<title>Desk</title>")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")


async def test_files_are_revalidated_unless_their_name_has_a_hash(app: FastAPI, serve: Serve):
    plain, hashed = await serve(app).get("/theme.js"), await serve(app).get("/assets/index-a1b2.js")
    assert plain.headers["cache-control"] == "no-cache"
    assert hashed.headers["cache-control"] == "public, max-age=31536000, immutable"
    again = await serve(app).get("/theme.js", headers={"If-None-Match": plain.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("accepted", "encoding", "content"),
    [("gzip, deflate, br", "br", b"smallest"), ("gzip;q=0.5, br;q=0", "gzip", b"small"), ("zstd", None, b"2" * 9)],
)
async def test_compressed_file_is_sent_to_browsers_that_accept_it(
    app: FastAPI, serve: Serve, tmp_path: Path, accepted: str, encoding: str | None, content: bytes
):
    for name, text in {"": b"2" * 9, ".br": b"smallest", ".gz": b"small"}.items():
        (tmp_path / "assets" / f"index-c3d4.js{name}").write_bytes(text)
    client = serve(app)
    async with client.stream("GET", "/assets/index-c3d4.js", headers={"Accept-Encoding": accepted}) as answer:
        assert b"".join([part async for part in answer.aiter_raw()]) == content
    assert answer.headers.get("content-encoding") == encoding
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "Accept-Encoding" in answer.headers["vary"]
    known = {"Accept-Encoding": accepted, "If-None-Match": answer.headers["etag"]}
    assert (await client.get("/assets/index-c3d4.js", headers=known)).status_code == 304


async def test_page_loads_nothing_inline(app: FastAPI, serve: Serve):
    policy = (await serve(app).get("/", headers=BROWSER)).headers["content-security-policy"]
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("accept", ["*/*", "text/html;q=0", "application/json"])
async def test_index_is_served_to_page_loads_only(app: FastAPI, serve: Serve, accept: str):
    """A script whose file is gone must not be fed a page."""
    assert (await serve(app).get("/missing.js", headers={"Accept": accept})).status_code == 404
    assert (await serve(app).get("/", headers={"Accept": "*/*"})).text == "<title>Desk</title>"


async def test_route_added_later_precedes_the_frontend(app: FastAPI, serve: Serve):
    app.add_api_route("/added", lambda: "later")
    assert (await serve(app).get("/added", headers=BROWSER)).json() == "later"


async def test_pages_are_read_only(app: FastAPI, serve: Serve):
    answer = await serve(app).post("/posts/7", headers=BROWSER)
    assert answer.status_code == 405
    said = answer.headers["allow"]
    assert {*said.split(", ")} == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path", ["/assets/index-old.js", "/assets/%2e%2e/%2e%2e/etc/passwd", "/api/typo", "/api/typo/"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_missing_asset_is_404_and_not_the_index(app: FastAPI, serve: Serve, method: str, path: str):
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
