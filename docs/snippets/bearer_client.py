"""A client that signs in once, stores its tokens, and renews them when they expire."""

import json
from collections.abc import Generator
from pathlib import Path

import httpx2

TOKEN_EXPIRED = 40150


class Tokens(httpx2.Auth):
    """Adds the access token to requests: `httpx2.Client(auth=Tokens(…))`."""

    requires_response_body = True

    def __init__(self, path: Path, refresh_url: str) -> None:
        self.path, self.refresh_url = path, refresh_url

    def keep(self, tokens: dict[str, str]) -> None:
        self.path.touch(mode=0o600)
        self.path.write_text(json.dumps(tokens))

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response]:
        tokens = json.loads(self.path.read_text())
        request.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        response = yield request
        if response.status_code == httpx2.codes.UNAUTHORIZED and response.json()["internal_code"] == TOKEN_EXPIRED:
            renewed = yield httpx2.Request("POST", self.refresh_url, json={"refresh_token": tokens["refresh_token"]})
            if renewed.is_success:
                self.keep(renewed.json())
                request.headers["Authorization"] = f"Bearer {renewed.json()['access_token']}"
                yield request


def sign_in(api: str, email: str, password: str, path: Path) -> httpx2.Client:
    tokens = httpx2.post(f"{api}/auth/token", json={"email": email, "password": password, "remember": True})
    auth = Tokens(path, f"{api}/auth/token/refresh")
    auth.keep(tokens.raise_for_status().json())
    return httpx2.Client(base_url=api, auth=auth)
