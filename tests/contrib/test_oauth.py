"""Signing in with accounts elsewhere, on both databases, against a real provider in a process of its own."""

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
from appkit.contrib.oauth.providers import ProviderFailedException, Providers
from appkit.contrib.oauth.service import AccountTakenException, InvalidStateException, OAuthLinked, OAuthUnlinked
from appkit.contrib.oauth.settings import OAuthSettings
from appkit.contrib.oauth.tables import OAuthAccount, OAuthFlow
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
from appkit.plugins.hookspecs import Challenge, hookimpl
from appkit.repository.auth import AuthSession
from appkit.repository.plain_user import User
from appkit.testing.kits import rebuilt
from appkit.testing.plugin import PASSWORD

PERSON = {"sub": "248289761001", "email": "Ada@Example.com", "email_verified": True}
PROVIDER = Path(__file__).with_name("oidc_provider.py")
CLIENT = {"client_id": "desk", "client_secret": "a secret that the provider gave out"}


@pytest.fixture(scope="module")
def issuer():
    """The URL of the provider."""
    with subprocess.Popen([sys.executable, PROVIDER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


@pytest.fixture
def think_of(issuer):
    """Say who is signed in at the provider, and what its ID token says."""

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
    """Go to the provider, and come back with what it sends."""

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
    """All of it."""

    async def sign_in(browser=client, **payload):
        return await browser.get(await go(browser, **payload))

    return sign_in


def error_of(response: httpx2.Response) -> int:
    """The code that the sign-in page is told."""
    assert response.status_code == 303, response.text
    page = urlsplit(response.headers["location"])
    assert (page.netloc, page.path) == ("testserver", "/signin")
    return int(parse_qs(page.fragment)["error"][0])


def session_cookies(response: httpx2.Response) -> list[str]:
    return [line for line in response.headers.get_list("set-cookie") if "_at=" in line and "Max-Age=0" not in line]


# Signing in


async def test_new_person_gets_an_account_and_is_signed_in(sign_in, client, db, events):
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


async def test_person_is_known_by_the_subject_whatever_the_address_is_by_then(sign_in, think_of, client, db):
    await sign_in()
    first = (await client.get("/api/auth/me")).json()["id"]
    think_of({**PERSON, "email": "new@example.com", "email_verified": False})
    await sign_in()
    assert (await client.get("/api/auth/me")).json()["id"] == first
    assert await db.scalar(select(func.count()).select_from(User)) == 1


async def test_other_person_with_the_address_of_then_is_somebody_else(sign_in, think_of, client):
    await sign_in()
    first = (await client.get("/api/auth/me")).json()["id"]
    think_of({**PERSON, "sub": "2", "email": "other@example.com"})
    await sign_in()
    assert (await client.get("/api/auth/me")).json()["id"] != first


async def test_person_comes_from_github_by_its_number_and_primary_address(sign_in, client, db):
    await sign_in(provider="github")
    assert (await client.get("/api/auth/me")).json()["email"].lower() == "ada@example.com"
    account = await db.scalar(select(OAuthAccount))
    assert (account.provider, account.subject) == ("github", PERSON["sub"])


async def test_github_address_that_is_not_verified_makes_no_account(sign_in, think_of, db):
    think_of({**PERSON, "email_verified": False})
    assert error_of(await sign_in(provider="github")) == EmailNotVerifiedException.internal_code
    assert await db.scalar(select(func.count()).select_from(User)) == 0


async def test_pages_may_be_below_a_path_where_the_api_is_not(kit, sign_in, client):
    below = FrontendSettings(url="https://testserver/desk/")
    kit.context.settings = kit.settings.model_copy(update={"frontend": below})
    response = await sign_in(next="/posts")
    assert response.headers["location"] == "https://testserver/desk/posts"
    assert (await client.get("/api/auth/me")).status_code == 200


async def test_closed_sign_up_is_closed_here_too(kit, app, sign_in, db, monkeypatch):
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
async def test_second_factor_is_asked_for_on_the_sign_in_page(sign_in, client, assert_error, plugins):
    response = await sign_in(next="/posts")
    page = urlsplit(response.headers["location"])
    said = parse_qs(page.fragment)
    assert (page.path, said["factors"], said["next"]) == ("/signin", ["totp"], ["/posts"])
    assert said["challenge"]
    assert session_cookies(response) == []
    assert_error(await client.get("/api/auth/me"), UnauthorizedException)


async def test_providers_are_listed_and_others_are_unknown(client, assert_error):
    assert (await client.get("/api/auth/oauth")).json() == {"providers": ["desk", "github"]}
    assert_error(await client.post("/api/auth/oauth/other/start", json={}), NotFoundException)
    assert_error(await client.get("/api/auth/oauth/other/callback"), NotFoundException)


# State, nonce, PKCE


async def test_browser_keeps_a_secret_in_a_cookie_that_scripts_cannot_read(client, think_of, kit):
    secure = kit.settings.auth.model_copy(update={"cookie_secure": True})
    kit.context.settings = kit.settings.model_copy(update={"auth": secure})
    begun = await client.post("/api/auth/oauth/desk/start", json={})
    cookie = begun.headers["set-cookie"]
    assert cookie.startswith("__Host-appkit_oauth=")
    for attribute in ("HttpOnly", "Secure", "SameSite=lax", "Path=/", "Max-Age=600"):
        assert attribute.lower() in cookie.lower()
    assert "domain" not in cookie.lower()
    assert begun.headers["cache-control"] == "no-store"


async def test_way_there_carries_state_nonce_and_challenge_and_no_secret(client, think_of, db):
    url = (await client.post("/api/auth/oauth/desk/start", json={})).json()["authorization_url"]
    query = parse_qs(urlsplit(url).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == ["https://testserver/api/auth/oauth/desk/callback"]
    flow = await db.scalar(select(OAuthFlow))
    assert query["nonce"] == [flow.nonce]
    assert flow.code_verifier not in url
    assert client.cookies["appkit_oauth"] not in url
    assert query["state"][0] not in {flow.state_hash, flow.browser_hash}


async def test_way_back_without_a_state_is_refused(go, client, assert_error, db):
    back = httpx2.URL(await go(client))
    for query in ({"code": back.params["code"]}, {"code": back.params["code"], "state": "x"}, {"state": "\x00"}):
        assert_error(await client.get(back.copy_with(params=query)), InvalidStateException)
    assert await db.scalar(select(func.count()).select_from(User)) == 0


async def test_way_back_in_another_browser_is_refused(go, client, request, assert_error):
    """Else somebody could be signed in to an account that isn't theirs (CVE-2025-68481)."""
    back = await go(client)
    async with request.getfixturevalue("_new_client")() as other:
        assert_error(await other.get(back), InvalidStateException)
        await go(other)  # With a cookie of its own.
        assert_error(await other.get(back), InvalidStateException)
    assert (await client.get(back)).headers["location"] == "https://testserver/"


async def test_way_back_from_another_provider_is_refused(go, client, assert_error):
    back = await go(client)
    assert_error(await client.get(back.replace("/desk/", "/github/")), InvalidStateException)


async def test_way_back_is_walked_once(go, client, assert_error):
    back = await go(client)
    assert session_cookies(await client.get(back))
    assert_error(await client.get(back), InvalidStateException)


async def test_way_back_ends_in_ten_minutes(go, client, db, assert_error):
    back = await go(client)
    await db.execute(update(OAuthFlow).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert_error(await client.get(back), InvalidStateException)
    await go(client)
    assert await db.scalar(select(func.count()).select_from(OAuthFlow)) == 1  # The old one is swept out.


async def test_two_tabs_may_be_on_their_way(go, client):
    first, second = await go(client, next="/one"), await go(client, next="/two")
    assert (await client.get(first)).headers["location"].endswith("/one")
    assert (await client.get(second)).headers["location"].endswith("/two")


async def test_code_of_somebody_elses_way_is_worth_nothing(go, client):
    """A stolen code does not fit the verifier (RFC 7636), nor its ID token the nonce."""
    first, second = httpx2.URL(await go(client)), httpx2.URL(await go(client))
    mixed = second.copy_merge_params({"code": first.params["code"]})
    assert error_of(await client.get(mixed)) == ProviderFailedException.internal_code


async def test_person_who_refuses_lands_on_the_sign_in_page(sign_in, think_of):
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
async def test_page_after_is_one_of_ours(client, think_of, page, assert_error):
    assert_error(await client.post("/api/auth/oauth/desk/start", json={"next": page}), UnprocessableException)


# What the provider says


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
async def test_id_token_that_is_not_for_us_proves_nothing(sign_in, think_of, claims, db):
    think_of({**PERSON, **claims})
    assert error_of(await sign_in()) == ProviderFailedException.internal_code
    assert await db.scalar(select(func.count()).select_from(User)) == 0


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_id_token_that_anybody_could_have_written_proves_nothing(go, think_of, client, issuer, db, algorithm):
    """Though the provider's own metadata names both (CVE-2022-29217 and its like)."""
    back = await go(client)
    flow = await db.scalar(select(OAuthFlow))
    now = int(datetime.now(UTC).timestamp())
    claims = {"iss": issuer, "aud": "desk", "iat": now, "exp": now + 60, "nonce": flow.nonce, **PERSON}
    secret = CLIENT["client_secret"] if algorithm == "HS256" else ""
    think_of({**PERSON, "id_token": jwt.encode(claims, secret, algorithm)})
    assert error_of(await client.get(back)) == ProviderFailedException.internal_code


async def test_provider_that_calls_itself_otherwise_is_not_believed(kit, app, sign_in, issuer):
    other = OAuthSettings.model_validate({"providers": {"desk": {**CLIENT, "issuer": f"{issuer}/"}}})
    kit.context.resources[Providers] = Providers(other)
    assert error_of(await sign_in()) == ProviderFailedException.internal_code


async def test_provider_that_is_away_is_no_bug(kit, app, client, assert_error):
    away = OAuthSettings.model_validate({"providers": {"away": {**CLIENT, "issuer": "http://127.0.0.1:9"}}})
    kit.context.resources[Providers] = Providers(away)
    assert_error(await client.post("/api/auth/oauth/away/start", json={}), ProviderFailedException)


# Linking


async def test_verified_addresses_on_both_sides_make_one_account(sign_in, client, make_user, db):
    user = await make_user("ada@example.com")
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    await sign_in()
    assert (await client.get("/api/auth/me")).json()["id"] == str(user.id)
    hashed = await db.scalar(select(User.hashed_password))
    assert hashed == user.hashed_password


async def test_address_that_the_provider_did_not_verify_links_nothing(sign_in, think_of, make_user, db):
    await make_user("ada@example.com")
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    for claims in ({"email_verified": False}, {"email_verified": "true"}, {"email_verified": None}, {"email": None}):
        think_of({**PERSON, **claims})
        assert error_of(await sign_in()) == EmailNotVerifiedException.internal_code
    assert await db.scalar(select(func.count()).select_from(OAuthAccount)) == 0


async def test_who_made_an_account_with_somebody_elses_address_loses_it(
    sign_in, client, request, db, events, assert_error
):
    """They may have waited for its owner to come this way."""
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


async def test_signed_in_person_links_an_account_of_another_address(verified_client, sign_in, client, user, db):
    response = await sign_in(verified_client, action="link", next="/settings")
    assert response.headers["location"] == "https://testserver/settings"
    assert session_cookies(response) == []
    linked = (await verified_client.get("/api/auth/oauth/linked")).json()
    assert [(each["provider"], each["email"]) for each in linked] == [("desk", PERSON["email"])]
    await sign_in(client)
    assert (await client.get("/api/auth/me")).json()["id"] == str(user.id)
    assert (await sign_in(verified_client, action="link")).headers["location"].endswith("/")


async def test_account_elsewhere_belongs_to_one_person(verified_client, sign_in, think_of, client):
    await sign_in(client)
    assert error_of(await sign_in(verified_client, action="link")) == AccountTakenException.internal_code
    think_of({**PERSON, "sub": "2"})
    assert (await sign_in(verified_client, action="link")).headers["location"].endswith("/")
    think_of({**PERSON, "sub": "3"})
    assert error_of(await sign_in(verified_client, action="link")) == AccountTakenException.internal_code


async def test_linking_needs_a_recent_password_and_a_verified_address(auth_client, client, db, think_of, assert_error):
    assert_error(await auth_client.post("/api/auth/oauth/desk/link", json={}), EmailNotVerifiedException)
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    await db.execute(update(AuthSession).values(authenticated_at=datetime.now(UTC) - timedelta(hours=1)))
    await auth_client.post("/api/auth/refresh")
    for method, path in (("POST", "desk/link"), ("DELETE", "desk/link")):
        response = await auth_client.request(method, f"/api/auth/oauth/{path}", json={})
        assert_error(response, ReauthenticationRequiredException)
        assert_error(await client.request(method, f"/api/auth/oauth/{path}", json={}), UnauthorizedException)


async def test_unlinked_account_signs_in_no_longer(verified_client, sign_in, client, user, events, assert_error):
    await sign_in(verified_client, action="link")
    assert (await verified_client.delete("/api/auth/oauth/desk/link")).status_code == 204
    assert_error(await verified_client.delete("/api/auth/oauth/desk/link"), NotFoundException)
    await sign_in(client)
    assert (await client.get("/api/auth/me")).json()["id"] != str(user.id)
    assert OAuthUnlinked in map(type, events)


# Settings


def test_unknown_provider_needs_its_issuer():
    with pytest.raises(AppKitError, match="needs its issuer"):
        Providers(OAuthSettings.model_validate({"providers": {"desk": CLIENT}}))


def test_google_is_known():
    assert Providers(OAuthSettings.model_validate({"providers": {"google": CLIENT}})).names() == ["google"]


def test_issuer_is_asked_over_https_only():
    with pytest.raises(ValueError, match="https://"):
        OAuthSettings.model_validate({"providers": {"desk": {**CLIENT, "issuer": "http://id.example.com"}}})


def test_production_needs_to_know_where_people_come_back_to(settings):
    production = settings.model_copy(update={"environment": "production", "frontend": FrontendSettings()})
    with pytest.raises(AppKitError, match="FRONTEND_URL"):
        oauth.register_routers(production)


def test_github_of_a_company_s_own_is_asked_there_and_github_com_at_its_api():
    providers = [
        Providers(OAuthSettings.model_validate({"providers": {"github": CLIENT | more}})).get("github")
        for more in ({}, {"issuer": "https://git.example.com"})
    ]
    assert [each._app.api_base_url for each in providers] == [
        "https://api.github.com/",
        "https://git.example.com/api/v3/",
    ]
