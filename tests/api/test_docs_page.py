"""The documentation page needs nobody else's server, and no inline script."""

import re
from collections.abc import Callable
from urllib.parse import urljoin

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient
from starlette.testclient import TestClient

from appkit.api.docs import install_docs
from appkit.api.middleware import SecurityHeadersMiddleware

Serve = Callable[..., AsyncClient]


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(title="Ann's <desk>", openapi_url="/api/openapi.json", docs_url=None, redoc_url=None)
    install_docs(app, "/api")
    app.add_middleware(SecurityHeadersMiddleware)
    return app


@pytest.mark.parametrize("root_path", ["", "/behind/a/proxy"])
def test_docs_page_loads_files_of_the_app_only(app: FastAPI, root_path: str):
    client = TestClient(app, root_path=root_path)
    page = client.get(f"{root_path}/api/docs")
    assert page.status_code == 200
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 4
    for link in links:
        file = client.get(urljoin(str(page.url), link))
        assert file.status_code == 200
        assert file.headers["content-type"].split(";")[0] in {"text/css", "text/javascript", "image/png"}
    (openapi_url,) = re.findall(r'data-openapi="([^"]+)"', page.text)
    assert client.get(openapi_url).json()["info"]["title"] == "Ann's <desk>"


async def test_docs_page_has_its_own_csp_and_no_inline_script(app: FastAPI, serve: Serve):
    page = await serve(app).get("/api/docs")
    policy = page.headers["content-security-policy"]
    assert "http" not in policy
    assert "script-src" not in policy
    assert policy.startswith("default-src 'self';")
    assert re.findall(r"<script[^>]*>(.*?)</script>", page.text, re.DOTALL) == ["", ""]
    assert "<title>Ann&#x27;s &lt;desk&gt;</title>" in page.text


async def test_docs_assets_are_cached_and_revalidated(app: FastAPI, serve: Serve):
    path = "/api/docs/assets/swagger-ui.css"
    first = await serve(app).get(path)
    assert first.headers["cache-control"] == "no-cache"
    again = await serve(app).get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_app_without_openapi_has_no_docs_page(serve: Serve):
    app = FastAPI(openapi_url=None)
    install_docs(app, "/api")
    assert (await serve(app).get("/api/docs")).status_code == 404
