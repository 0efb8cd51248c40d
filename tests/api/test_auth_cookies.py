"""The cookies are out of reach: of scripts, of other hosts, of plain HTTP, and of caches; on both databases."""

from http.cookies import Morsel, SimpleCookie

import pytest
from httpx2 import Response

from appkit.testing.plugin import PASSWORD


@pytest.fixture
def settings(settings):
    auth = settings.auth.model_copy(update={"cookie_secure": True})
    return settings.model_copy(update={"auth": auth, "app_name": "My Shop"})


def cookies_of(response: Response) -> dict[str, Morsel[str]]:
    return {
        name: cookie
        for header in response.headers.get_list("set-cookie")
        for name, cookie in SimpleCookie(header).items()
    }


def attributes_of(cookie: Morsel[str]) -> dict[str, object]:
    return {name: value for name, value in cookie.items() if value and name != "max-age"}


async def test_signin_sets_host_only_secure_cookies(client, user):
    response = await client.post("/api/auth/signin", json={"email": user.email, "password": PASSWORD})
    cookies = cookies_of(response)
    assert set(cookies) == {"__Host-my_shop_at", "__Host-my_shop_rt", "__Host-my_shop_dv"}
    device = cookies.pop("__Host-my_shop_dv")
    assert device["max-age"] == str(365 * 86400)
    shared = {"secure": True, "httponly": True, "path": "/"}
    assert attributes_of(cookies["__Host-my_shop_at"]) == {**shared, "samesite": "lax"}
    assert attributes_of(cookies["__Host-my_shop_rt"]) == attributes_of(device) == {**shared, "samesite": "strict"}
    for header in response.headers.get_list("set-cookie"):
        assert len(header) < 4096
    for cookie in cookies.values():
        assert cookie.value not in response.text
        assert not cookie["max-age"]
    assert response.headers["cache-control"] == "no-store"
    assert (await client.get("/api/auth/me")).headers["cache-control"] == "no-store"


async def test_signin_with_remember_sets_persistent_cookies(client, user, settings):
    body = {"email": user.email, "password": PASSWORD, "remember": True}
    for response in (await client.post("/api/auth/signin", json=body), await client.post("/api/auth/refresh")):
        for name, cookie in cookies_of(response).items():
            if name == "__Host-my_shop_dv":
                continue
            assert 0 <= settings.auth.remember_idle_ttl - int(cookie["max-age"]) < 10


@pytest.mark.parametrize("how", ["signout", "refresh"])
async def test_cookies_are_cleared_with_the_attributes_they_were_set_with(auth_client, how):
    held = dict(auth_client.cookies)
    if how == "refresh":
        await auth_client.post("/api/auth/signout")
        auth_client.cookies.update(held)
    response = await auth_client.post(f"/api/auth/{how}")
    assert response.status_code == {"signout": 204, "refresh": 401}[how]
    cookies = cookies_of(response)
    assert set(cookies) == set(held) - {"__Host-my_shop_dv"}
    for cookie in cookies.values():
        assert (cookie.value, cookie["max-age"]) == ("", "0")
        assert {"secure", "httponly", "path", "samesite"} == set(attributes_of(cookie))
    assert response.headers["cache-control"] == "no-store"


async def test_refresh_keeps_the_cookies_after_a_server_error(auth_client, monkeypatch):
    """A database that is away for a moment must not sign everybody out."""
    from appkit.exceptions import ServiceUnavailableException
    from appkit.service.auth import AuthService

    async def refresh(*_):
        raise ServiceUnavailableException

    monkeypatch.setattr(AuthService, "refresh", refresh)
    response = await auth_client.post("/api/auth/refresh")
    assert response.status_code == 503
    assert "set-cookie" not in response.headers


async def test_cookies_with_the_names_of_another_mode_are_ignored(auth_client, client):
    """A host-wide `my_shop_at` that a neighbour planted is not ours."""
    client.cookies.set("my_shop_at", auth_client.cookies["__Host-my_shop_at"])
    assert (await client.get("/api/auth/me")).status_code == 401


def test_openapi_has_the_name_of_the_cookie(app):
    assert app.openapi()["components"]["securitySchemes"]["Cookie"]["name"] == "__Host-my_shop_at"
