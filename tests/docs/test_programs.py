"""The program on the page signs in, and renews its tokens once they have expired."""

import importlib
import json
import sys
from collections.abc import Iterator
from types import ModuleType

import httpx2
import pytest

ACCOUNT = {"email": "ada@example.com", "password": "correct horse battery"}


@pytest.fixture
def program(folder, monkeypatch) -> Iterator[ModuleType]:
    directory = folder("bearer_client")
    monkeypatch.syspath_prepend(str(directory))
    yield importlib.import_module("bearer_client")
    del sys.modules["bearer_client"]


@pytest.mark.slow
def test_program_signs_in_and_out(program, folder, serve, environment, tmp_path):
    environment["AUTH_BEARER_ENABLED"] = "true"
    kept = tmp_path / "tokens.json"
    with serve(folder("bookmarks"), "bookmarks:app") as browser:
        assert browser.post("/api/auth/signup", json=ACCOUNT).status_code == 201
        with program.sign_in(f"{browser.base_url}/api", *ACCOUNT.values(), kept) as client:
            assert kept.stat().st_mode & 0o777 == 0o600
            assert client.get("/auth/me").json()["email"] == ACCOUNT["email"]
            assert client.post("/auth/signout").status_code == 204
            assert client.get("/auth/me").status_code == 401


def test_program_renews_what_has_expired_and_keeps_it(program, tmp_path):
    """With a server that is made up, for a real one's tokens are good for longer than a test."""
    asked: list[tuple[str, str | None]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append((request.url.path, request.headers.get("authorization")))
        if request.url.path == "/api/auth/token/refresh":
            assert json.loads(request.content) == {"refresh_token": "r1"}
            return httpx2.Response(200, json={"access_token": "a2", "refresh_token": "r2"})
        if request.headers["authorization"] == "Bearer a1":
            return httpx2.Response(401, json={"internal_code": 40150})
        return httpx2.Response(200, json=[])

    tokens = program.Tokens(tmp_path / "tokens.json", "http://server/api/auth/token/refresh")
    tokens.keep({"access_token": "a1", "refresh_token": "r1"})
    with httpx2.Client(base_url="http://server/api", auth=tokens, transport=httpx2.MockTransport(answer)) as client:
        assert client.get("/bookmarks").json() == []
        assert client.get("/bookmarks").json() == []
    renewed = ("/api/auth/token/refresh", None)
    first, second = ("/api/bookmarks", "Bearer a1"), ("/api/bookmarks", "Bearer a2")
    assert asked == [first, renewed, second, second]
