"""The plugin oauth, on both databases, with an OpenID Connect provider in another process."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import jwt
import pytest
from sqlalchemy import func, select, update

from appkit.contrib import oauth
from appkit.contrib.oauth.providers import OAuthSettings, ProviderFailedException, Providers
from appkit.contrib.oauth.service import (
    AccountTakenException,
    InvalidStateException,
    OAuthAccount,
    OAuthFlow,
    OAuthLinked,
    OAuthUnlinked,
)
from appkit.core.settings import FrontendSettings
from appkit.domain.events import AccountTakenOver, UserCreated, UserSignedIn, UserSignedUp
from appkit.exceptions import (
    AppKitError,
    EmailNotVerifiedException,
    NotFoundException,
    ReauthenticationRequiredException,
    SessionRevokedException,
    SignupClosedException,
    UnauthorizedException,
    UnprocessableException,
)
from appkit.kit import AppKit
from appkit.plugins.markers import hookimpl
from appkit.repository.auth import AuthSession
from appkit.repository.plain_user import User
from appkit.service.hookspecs import Challenge
from appkit.testing.kits import rebuilt
from appkit.testing.plugin import PASSWORD

PERSON = {"sub": "248289761001", "email": "Ada@Example.com", "email_verified": True}
PROVIDER = Path(__file__).with_name("oidc_provider.py")
CLIENT = {"client_id": "desk", "client_secret": "a secret that the provider gave out"}


@pytest.fixture(scope="module")
def issuer():
    """The provider's URL."""
    with subprocess.Popen([sys.executable, PROVIDER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


@pytest.fixture
def think_of(issuer):
    """Set the user at the provider, and the claims of its ID token."""

    def think_of(person: dict[str, Any]) -> None:
        httpx2.put(f"{issuer}/person", json=person).raise_for_status()

    think_of(PERSON)
    return think_of


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"frontend": FrontendSettings(url="https://testserver")})


@pytest.fixture
def plugins():
    return [oauth]


@pytest.fixture
def kit(settings, issuer, monkeypatch, plugins):
    providers = {"desk": {**CLIENT, "issuer": issuer}, "github": {**CLIENT, "issuer": issuer}}
    monkeypatch.setenv("OAUTH_PROVIDERS", json.dumps(providers))
    with rebuilt(AppKit(plugins=plugins, discover=False), settings) as kit:
        yield kit


@pytest.fixture
def go(think_of):
    """Run a flow: start it, follow the provider's redirect, and call the callback."""

    async def go(browser, provider="desk", action="start", **payload):
        begun = await browser.post(f"/api/auth/oauth/{provider}/{action}", json=payload)
        assert begun.status_code == 200, begun.text
        async with httpx2.AsyncClient() as elsewhere:
            sent_back = await elsewhere.get(begun.json()["authorization_url"])
        assert sent_back.status_code == 302, sent_back.text
        return sent_back.headers["location"]

    return go


@pytest.fixture
def sign_in(go, client):
    """Run a whole flow."""

    async def sign_in(browser=client, **payload):
        return await browser.get(await go(browser, **payload))

    return sign_in


def error_of(response: httpx2.Response) -> int:
    """The error code in the redirect to the sign-in page."""
    assert response.status_code == 303, response.text
    page = urlsplit(response.headers["location"])
    assert (page.netloc, page.path) == ("testserver", "/signin")
    return int(parse_qs(page.fragment)["error"][0])


def session_cookies(response: httpx2.Response) -> list[str]:
    return [line for line in response.headers.get_list("set-cookie") if "_at=" in line and "Max-Age=0" not in line]


# Signing in


async def test_new_user_gets_an_account_and_is_signed_in(sign_in, client, db, events):
    response = await sign_in(next="/posts?page=2", remember=True)
    assert response.status_code == 303
    assert response.headers["location"] == "https://testserver/posts?page=2"
    me = (await client.get("/api/auth/me")).json()
    assert (me["email"].lower(), me["email_verified"]) == ("ada@example.com", True)
    account = await db.scalar(select(OAuthAccount))
    assert (account.provider, account.subject, str(account.user_id)) == ("desk", PERSON["sub"], me["id"])
    session = await db.scalar(select(AuthSession))
    assert (session.amr, session.remember) == (["oauth"], True)
    assert [type(event) for event in events] == [UserCreated, UserSignedUp, OAuthLinked, UserSignedIn]
    assert await db.scalar(select(User.hashed_password)) is None


async def test_user_is_identified_by_the_subject_not_by_the_address(sign_in, think_of, client, db):
    await sign_in()
    first = (await client.get("/api/auth/me")).json()["id"]
    think_of({**PERSON, "email": "new@example.com", "email_verified": False})
    await sign_in()
    assert (await client.get("/api/auth/me")).json()["id"] == first
    assert await db.scalar(select(func.count()).select_from(User)) == 1


async def test_other_subject_with_a_former_address_is_another_user(sign_in, think_of, client):
    await sign_in()
    first = (await client.get("/api/auth/me")).json()["id"]
    think_of({**PERSON, "sub": "2", "email": "other@example.com"})
    await sign_in()
    assert (await client.get("/api/auth/me")).json()["id"] != first


async def test_github_user_has_its_id_and_primary_address(sign_in, client, db):
    await sign_in(provider="github")
    assert (await client.get("/api/auth/me")).json()["email"].lower() == "ada@example.com"
    account = await db.scalar(select(OAuthAccount))
    assert (account.provider, account.subject) == ("github", PERSON["sub"])


async def test_unverified_github_address_creates_no_account(sign_in, think_of, db):
    think_of({**PERSON, "email_verified": False})
    assert error_of(await sign_in(provider="github")) == EmailNotVerifiedException.internal_code
    assert await db.scalar(select(func.count()).select_from(User)) == 0


async def test_frontend_can_be_below_a_path(kit, sign_in, client):
    below = FrontendSettings(url="https://testserver/desk/")
    kit.context.settings = kit.settings.model_copy(update={"frontend": below})
    response = await sign_in(next="/posts")
    assert response.headers["location"] == "https://testserver/desk/posts"
    assert (await client.get("/api/auth/me")).status_code == 200


async def test_oauth_respects_closed_sign_up(kit, app, sign_in, db, monkeypatch):
    closed = kit.settings.auth.model_copy(update={"signup_mode": "closed"})
    kit.context.settings = kit.settings.model_copy(update={"auth": closed})
    assert error_of(await sign_in()) == SignupClosedException.internal_code
    assert await db.scalar(select(func.count()).select_from(User)) == 0


async def test_disabled_account_is_not_signed_in(sign_in, client, db):
    await sign_in()
    await db.execute(update(User).values(is_active=False))
    client.cookies.clear()
    response = await sign_in()
    assert error_of(response) == 40151
    assert session_cookies(response) == []


class AsksForMore:
    @hookimpl
    def before_signin(self):
        return Challenge(["totp"])


@pytest.mark.parametrize("plugins", [[oauth, AsksForMore()]])
async def test_second_factor_is_requested_on_the_sign_in_page(sign_in, client, assert_error, plugins):
    response = await sign_in(next="/posts")
    page = urlsplit(response.headers["location"])
    said = parse_qs(page.fragment)
    assert (page.path, said["factors"], said["next"]) == ("/signin", ["totp"], ["/posts"])
    assert said["challenge"]
    assert session_cookies(response) == []
    assert_error(await client.get("/api/auth/me"), UnauthorizedException)


async def test_providers_are_listed_and_unknown_ones_are_a_404(client, assert_error):
    assert (await client.get("/api/auth/oauth")).json() == {"providers": ["desk", "github"]}
    assert_error(await client.post("/api/auth/oauth/other/start", json={}), NotFoundException)
    assert_error(await client.get("/api/auth/oauth/other/callback"), NotFoundException)


# State, nonce, PKCE


async def test_oauth_cookie_is_http_only(client, think_of, kit):
    secure = kit.settings.auth.model_copy(update={"cookie_secure": True})
    kit.context.settings = kit.settings.model_copy(update={"auth": secure})
    begun = await client.post("/api/auth/oauth/desk/start", json={})
    cookie = begun.headers["set-cookie"]
    assert cookie.startswith("__Host-appkit_oauth=")
    for attribute in ("HttpOnly", "Secure", "SameSite=lax", "Path=/", "Max-Age=600"):
        assert attribute.lower() in cookie.lower()
    assert "domain" not in cookie.lower()
    assert begun.headers["cache-control"] == "no-store"


async def test_authorization_url_has_state_nonce_and_challenge_and_no_secret(client, think_of, db):
    url = (await client.post("/api/auth/oauth/desk/start", json={})).json()["authorization_url"]
    query = parse_qs(urlsplit(url).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == ["https://testserver/api/auth/oauth/desk/callback"]
    flow = await db.scalar(select(OAuthFlow))
    assert query["nonce"] == [flow.nonce]
    assert flow.code_verifier not in url
    assert client.cookies["appkit_oauth"] not in url
    assert query["state"][0] not in {flow.state_hash, flow.browser_hash}


async def test_oauth_callback_without_a_state_is_refused(go, client, assert_error, db):
    back = httpx2.URL(await go(client))
    for query in ({"code": back.params["code"]}, {"code": back.params["code"], "state": "x"}, {"state": "\x00"}):
        assert_error(await client.get(back.copy_with(params=query)), InvalidStateException)
    assert await db.scalar(select(func.count()).select_from(User)) == 0


async def test_oauth_callback_in_another_browser_is_refused(go, client, request, assert_error):
    """Otherwise an attacker could sign a victim in to the attacker's account (CVE-2025-68481)."""
    back = await go(client)
    async with request.getfixturevalue("_new_client")() as other:
        assert_error(await other.get(back), InvalidStateException)
        await go(other)  # The other browser gets a cookie too.
        assert_error(await other.get(back), InvalidStateException)
    assert (await client.get(back)).headers["location"] == "https://testserver/"


async def test_oauth_callback_from_another_provider_is_refused(go, client, assert_error):
    back = await go(client)
    assert_error(await client.get(back.replace("/desk/", "/github/")), InvalidStateException)


async def test_oauth_state_is_single_use(go, client, assert_error):
    back = await go(client)
    assert session_cookies(await client.get(back))
    assert_error(await client.get(back), InvalidStateException)


async def test_oauth_flow_expires_after_ten_minutes(go, client, db, assert_error):
    back = await go(client)
    await db.execute(update(OAuthFlow).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert_error(await client.get(back), InvalidStateException)
    await go(client)
    assert await db.scalar(select(func.count()).select_from(OAuthFlow)) == 1  # The expired flow is deleted.


async def test_two_tabs_can_have_a_flow_each(go, client):
    first, second = await go(client, next="/one"), await go(client, next="/two")
    assert (await client.get(first)).headers["location"].endswith("/one")
    assert (await client.get(second)).headers["location"].endswith("/two")


async def test_code_of_another_flow_is_refused(go, client):
    """The verifier of a flow (RFC 7636) refuses the code of another flow."""
    first, second = httpx2.URL(await go(client)), httpx2.URL(await go(client))
    mixed = second.copy_merge_params({"code": first.params["code"]})
    assert error_of(await client.get(mixed)) == ProviderFailedException.internal_code


async def test_refused_consent_redirects_to_the_sign_in_page(sign_in, think_of):
    think_of({**PERSON, "refuses": True})
    assert error_of(await sign_in()) == ProviderFailedException.internal_code


@pytest.mark.parametrize(
    "page",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "evil",
        "",
        "/a b",
    ],
)
async def test_next_must_be_a_path_of_the_app(client, think_of, page, assert_error):
    assert_error(await client.post("/api/auth/oauth/desk/start", json={"next": page}), UnprocessableException)


# Responses of the provider


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"aud": ["other"]},
        {"aud": ["other"], "azp": "desk"},
        {"exp": 1},
        {"nonce": "another"},
        {"sub": None},
    ],
    ids=["issuer", "audience", "party", "past", "nonce", "nobody"],
)
async def test_id_token_for_another_app_or_flow_is_refused(sign_in, think_of, claims, db):
    think_of({**PERSON, **claims})
    assert error_of(await sign_in()) == ProviderFailedException.internal_code
    assert await db.scalar(select(func.count()).select_from(User)) == 0


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_id_token_without_an_asymmetric_signature_is_refused(go, think_of, client, issuer, db, algorithm):
    """The provider's metadata lists both algorithms (CVE-2022-29217 and similar)."""
    back = await go(client)
    flow = await db.scalar(select(OAuthFlow))
    now = int(datetime.now(UTC).timestamp())
    claims = {"iss": issuer, "aud": "desk", "iat": now, "exp": now + 60, "nonce": flow.nonce, **PERSON}
    secret = CLIENT["client_secret"] if algorithm == "HS256" else ""
    think_of({**PERSON, "id_token": jwt.encode(claims, secret, algorithm)})
    assert error_of(await client.get(back)) == ProviderFailedException.internal_code


async def test_provider_with_another_issuer_is_refused(kit, app, sign_in, issuer):
    other = OAuthSettings.model_validate({"providers": {"desk": {**CLIENT, "issuer": f"{issuer}/"}}})
    kit.context.resources[Providers] = Providers(other)
    assert error_of(await sign_in()) == ProviderFailedException.internal_code


async def test_unreachable_provider_is_no_server_error(kit, app, client, assert_error):
    away = OAuthSettings.model_validate({"providers": {"away": {**CLIENT, "issuer": "http://127.0.0.1:9"}}})
    kit.context.resources[Providers] = Providers(away)
    assert_error(await client.post("/api/auth/oauth/away/start", json={}), ProviderFailedException)


# Linking


async def test_verified_addresses_on_both_sides_are_linked(sign_in, client, make_user, db):
    user = await make_user("ada@example.com")
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    await sign_in()
    assert (await client.get("/api/auth/me")).json()["id"] == str(user.id)
    hashed = await db.scalar(select(User.hashed_password))
    assert hashed == user.hashed_password


async def test_address_not_verified_by_the_provider_is_not_linked(sign_in, think_of, make_user, db):
    await make_user("ada@example.com")
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    for claims in ({"email_verified": False}, {"email_verified": "true"}, {"email_verified": None}, {"email": None}):
        think_of({**PERSON, **claims})
        assert error_of(await sign_in()) == EmailNotVerifiedException.internal_code
    assert await db.scalar(select(func.count()).select_from(OAuthAccount)) == 0


async def test_unverified_account_is_taken_over_by_the_owner_of_its_address(
    sign_in, client, request, db, events, assert_error
):
    """An attacker may have created the account in advance."""
    credentials = {"email": "ada@example.com", "password": PASSWORD}
    async with request.getfixturevalue("_new_client")() as waiting:
        assert (await waiting.post("/api/auth/signup", json=credentials)).status_code == 201
        await sign_in()
        assert (await client.get("/api/auth/me")).status_code == 200
        assert_error(await waiting.get("/api/auth/me"), SessionRevokedException)
        assert_error(await waiting.post("/api/auth/refresh"), SessionRevokedException)
        assert (await waiting.post("/api/auth/signin", json=credentials)).status_code == 401
    assert await db.scalar(select(User.email_verified_at)) is not None
    assert AccountTakenOver in map(type, events)


@pytest.fixture
async def verified_client(auth_client, db):
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    return auth_client


async def test_signed_in_user_links_an_account_with_another_address(verified_client, sign_in, client, user, db):
    response = await sign_in(verified_client, action="link", next="/settings")
    assert response.headers["location"] == "https://testserver/settings"
    assert session_cookies(response) == []
    linked = (await verified_client.get("/api/auth/oauth/linked")).json()
    assert [(each["provider"], each["email"]) for each in linked] == [("desk", PERSON["email"])]
    await sign_in(client)
    assert (await client.get("/api/auth/me")).json()["id"] == str(user.id)
    assert (await sign_in(verified_client, action="link")).headers["location"].endswith("/")


async def test_provider_account_is_linked_to_one_user(verified_client, sign_in, think_of, client):
    await sign_in(client)
    assert error_of(await sign_in(verified_client, action="link")) == AccountTakenException.internal_code
    think_of({**PERSON, "sub": "2"})
    assert (await sign_in(verified_client, action="link")).headers["location"].endswith("/")
    think_of({**PERSON, "sub": "3"})
    assert error_of(await sign_in(verified_client, action="link")) == AccountTakenException.internal_code


async def test_linking_requires_a_recent_password_and_a_verified_address(
    auth_client, client, db, think_of, assert_error
):
    assert_error(await auth_client.post("/api/auth/oauth/desk/link", json={}), EmailNotVerifiedException)
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    await db.execute(update(AuthSession).values(authenticated_at=datetime.now(UTC) - timedelta(hours=1)))
    await auth_client.post("/api/auth/refresh")
    for method, path in (("POST", "desk/link"), ("DELETE", "desk/link")):
        response = await auth_client.request(method, f"/api/auth/oauth/{path}", json={})
        assert_error(response, ReauthenticationRequiredException)
        assert_error(await client.request(method, f"/api/auth/oauth/{path}", json={}), UnauthorizedException)


async def test_unlinked_account_cannot_sign_in(verified_client, sign_in, client, user, events, assert_error):
    await sign_in(verified_client, action="link")
    assert (await verified_client.delete("/api/auth/oauth/desk/link")).status_code == 204
    assert_error(await verified_client.delete("/api/auth/oauth/desk/link"), NotFoundException)
    await sign_in(client)
    assert (await client.get("/api/auth/me")).json()["id"] != str(user.id)
    assert OAuthUnlinked in map(type, events)


# Settings


def test_unknown_provider_requires_an_issuer():
    with pytest.raises(AppKitError, match="needs an issuer"):
        Providers(OAuthSettings.model_validate({"providers": {"desk": CLIENT}}))


def test_google_needs_no_issuer():
    assert list(Providers(OAuthSettings.model_validate({"providers": {"google": CLIENT}}))) == ["google"]


def test_issuer_must_be_https():
    with pytest.raises(ValueError, match="https://"):
        OAuthSettings.model_validate({"providers": {"desk": {**CLIENT, "issuer": "http://id.example.com"}}})


def test_oauth_requires_frontend_url_in_production(settings):
    production = settings.model_copy(update={"environment": "production", "frontend": FrontendSettings()})
    with pytest.raises(AppKitError, match="FRONTEND_URL"):
        oauth.register_routers(production)


def test_github_enterprise_server_uses_its_own_urls():
    providers = [
        Providers(OAuthSettings.model_validate({"providers": {"github": CLIENT | more}}))["github"]
        for more in ({}, {"issuer": "https://git.example.com"})
    ]
    assert [each._app.api_base_url for each in providers] == [
        "https://api.github.com/",
        "https://git.example.com/api/v3/",
    ]
