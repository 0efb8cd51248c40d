"""The plugin passkeys, on both databases, with an authenticator in software."""

import asyncio
import hashlib
import json
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import func, select, update

from appkit.contrib import passkeys
from appkit.contrib.passkeys.service import (
    InvalidPasskeyException,
    Passkey,
    PasskeyAdded,
    PasskeyChallenge,
    PasskeyRefusedException,
    PasskeyRemoved,
    PasskeysSettings,
)
from appkit.core.settings import FrontendSettings
from appkit.domain.events import UserSignedIn
from appkit.exceptions import (
    AppKitError,
    EmailNotVerifiedException,
    NotFoundException,
    ReauthenticationRequiredException,
    UnauthorizedException,
    UnprocessableException,
)
from appkit.kit import AppKit
from appkit.repository.auth import AuthSession
from appkit.repository.plain_user import User
from appkit.testing.kits import rebuilt

ORIGIN = "https://app.example.com"

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


@dataclass
class Authenticator:
    """An authenticator with one passkey, whose responses a test can change."""

    origin: str
    verifies: bool = True
    """Whether the authenticator verifies the user."""
    counts: bool = True
    sign_count: int = 0
    id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    user_handle: str | None = None

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """`navigator.credentials.create()`."""
        self.user_handle = options["user"]["id"]
        numbers = self.key.public_key().public_numbers()
        public = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + struct.pack(">H", len(self.id)) + self.id + cbor2.dumps(public)
        data = self._data(options["rp"]["id"], ATTESTED) + attested
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        client_data = self._client_data("webauthn.create", options["challenge"])
        return self._credential(
            clientDataJSON=client_data, attestationObject=attestation, transports=["internal", "hybrid"]
        )

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """`navigator.credentials.get()`."""
        self.sign_count += self.counts
        client_data = self._client_data("webauthn.get", options["challenge"])
        data = self._data(options["rpId"], 0)
        signature = self.key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        return self._credential(
            clientDataJSON=client_data, authenticatorData=data, signature=signature, userHandle=self.user_handle
        )

    def _data(self, rp_id: str, flags: int) -> bytes:
        flags |= PRESENT | (VERIFIED if self.verifies else 0)
        return hashlib.sha256(rp_id.encode()).digest() + struct.pack(">BI", flags, self.sign_count)

    def _client_data(self, kind: str, challenge: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin}).encode()

    def _credential(self, **response: Any) -> dict[str, Any]:
        response = {name: encode(value) if isinstance(value, bytes) else value for name, value in response.items()}
        return {"id": encode(self.id), "rawId": encode(self.id), "type": "public-key", "response": response}


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"frontend": FrontendSettings(url=f"{ORIGIN}/desk/")})


@pytest.fixture
def kit(settings):
    with rebuilt(AppKit(plugins=[passkeys], discover=False), settings) as kit:
        yield kit


@pytest.fixture
def authenticator():
    return Authenticator(ORIGIN)


@pytest.fixture
async def owner(auth_client, db):
    """An HTTP client signed in as a user with a verified e-mail address."""
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    return auth_client


@pytest.fixture
def add(owner):
    async def add(authenticator, name="Laptop", **changes):
        options = (await owner.post("/api/auth/passkeys/options")).json()["options"]
        credential = authenticator.create(options)
        credential["response"] |= changes
        return await owner.post("/api/auth/passkeys", json={"name": name, "credential": credential})

    return add


@pytest.fixture
def ask(client):
    """Get the options of a sign-in, which contain the challenge."""

    async def ask():
        return (await client.post("/api/auth/passkeys/signin/options")).json()["options"]

    return ask


@pytest.fixture
def use(client):
    async def use(credential, **more):
        return await client.post("/api/auth/passkeys/signin", json={"credential": credential, **more})

    return use


# Adding


async def test_creation_options_require_a_discoverable_verified_credential(owner, user, settings, add, authenticator):
    await add(authenticator)
    options = (await owner.post("/api/auth/passkeys/options")).json()["options"]
    assert options["rp"] == {"id": "app.example.com", "name": settings.app_name}
    assert options["user"]["name"] == user.email
    assert decode(options["user"]["id"]) == user.id.bytes
    assert options["authenticatorSelection"]["userVerification"] == "required"
    assert options["authenticatorSelection"]["residentKey"] == "required"
    assert [each["id"] for each in options["excludeCredentials"]] == [encode(authenticator.id)]
    assert len(decode(options["challenge"])) >= 16


async def test_passkey_is_added_listed_and_removed(owner, add, authenticator, events, ask, use, assert_error):
    added = await add(authenticator, "My phone")
    assert added.status_code == 201, added.text
    (listed,) = (await owner.get("/api/auth/passkeys")).json()
    assert (listed["name"], listed["id"], listed["last_used_at"]) == ("My phone", added.json()["id"], None)
    assert set(listed) == {"id", "name", "created_at", "last_used_at"}
    assert (await use(authenticator.get(await ask()))).status_code == 200
    assert (await owner.get("/api/auth/passkeys")).json()[0]["last_used_at"] is not None
    assert (await owner.delete(f"/api/auth/passkeys/{listed['id']}")).status_code == 204
    assert (await owner.get("/api/auth/passkeys")).json() == []
    assert_error(await use(authenticator.get(await ask())), InvalidPasskeyException)
    assert [type(event) for event in events if "Passkey" in type(event).__name__] == [PasskeyAdded, PasskeyRemoved]


async def test_passkey_of_another_user_cannot_be_removed(add, authenticator, admin_client, db, assert_error):
    passkey_id = (await add(authenticator)).json()["id"]
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    assert (await admin_client.get("/api/auth/passkeys")).json() == []
    assert_error(await admin_client.delete(f"/api/auth/passkeys/{passkey_id}"), NotFoundException)
    assert await db.scalar(select(func.count()).select_from(Passkey)) == 1


async def test_passkey_created_on_another_origin_is_refused(add, assert_error):
    """A passkey is bound to its origin, so a phishing page can't use it."""
    for origin in ("https://app.example.com.evil.example", "http://app.example.com", "https://app.example.com:8443"):
        assert_error(await add(Authenticator(origin)), PasskeyRefusedException)


async def test_passkey_created_without_user_verification_is_refused(add, assert_error):
    assert_error(await add(Authenticator(ORIGIN, verifies=False)), PasskeyRefusedException)


async def test_creation_options_are_bound_to_the_user(owner, admin_client, db, authenticator, assert_error):
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    options = (await owner.post("/api/auth/passkeys/options")).json()["options"]
    body = {"name": "Theirs", "credential": authenticator.create(options)}
    assert_error(await admin_client.post("/api/auth/passkeys", json=body), PasskeyRefusedException)


async def test_creation_options_are_single_use(owner, authenticator, assert_error, db):
    options = (await owner.post("/api/auth/passkeys/options")).json()["options"]
    answers = [
        await owner.post("/api/auth/passkeys", json={"name": "Laptop", "credential": each.create(options)})
        for each in (authenticator, Authenticator(ORIGIN))
    ]
    assert answers[0].status_code == 201
    assert_error(answers[1], PasskeyRefusedException)
    assert await db.scalar(select(func.count()).select_from(PasskeyChallenge)) == 0


async def test_existing_passkey_is_not_added_again(add, authenticator):
    assert (await add(authenticator)).status_code == 201
    assert (await add(authenticator)).status_code == 409


async def test_managing_passkeys_requires_a_recent_password_and_a_verified_address(
    auth_client, client, db, assert_error
):
    assert_error(await auth_client.post("/api/auth/passkeys/options"), EmailNotVerifiedException)
    await db.execute(update(User).values(email_verified_at=datetime.now(UTC)))
    await db.execute(update(AuthSession).values(authenticated_at=datetime.now(UTC) - timedelta(hours=1)))
    await auth_client.post("/api/auth/refresh")
    body = {"name": "x", "credential": {}}
    for method, path in (("POST", "/options"), ("POST", ""), ("DELETE", f"/{uuid4()}")):
        response = await auth_client.request(method, f"/api/auth/passkeys{path}", json=body)
        assert_error(response, ReauthenticationRequiredException)
        assert_error(await client.request(method, f"/api/auth/passkeys{path}", json=body), UnauthorizedException)
    assert_error(await client.get("/api/auth/passkeys"), UnauthorizedException)


# Signing in


async def test_passkey_signs_in_and_counts_as_two_factors(add, authenticator, ask, use, client, user, db, events):
    await add(authenticator)
    options = await ask()
    assert options["userVerification"] == "required"
    assert options.get("allowCredentials", []) == []
    response = await use(authenticator.get(options), remember=True)
    assert response.json()["id"] == str(user.id)
    assert (await client.get("/api/auth/me")).json()["email"] == user.email
    session = await db.scalar(select(AuthSession).order_by(AuthSession.created_at.desc()).limit(1))
    assert (session.amr, session.remember) == (["pop", "mfa"], True)
    assert UserSignedIn in map(type, events)
    assert await db.scalar(select(Passkey.sign_count)) == 1


async def test_sign_in_without_user_verification_is_refused(add, authenticator, ask, use, client, assert_error):
    await add(authenticator)
    authenticator.verifies = False
    assert_error(await use(authenticator.get(await ask())), InvalidPasskeyException)
    assert_error(await client.get("/api/auth/me"), UnauthorizedException)


async def test_passkey_assertion_is_single_use(add, authenticator, ask, use, assert_error):
    await add(authenticator)
    authenticator.counts = False  # Synchronised passkeys don't count.
    answer = authenticator.get(await ask())
    assert (await use(answer)).status_code == 200
    assert_error(await use(answer), InvalidPasskeyException)


@pytest.mark.both_databases
async def test_parallel_uses_of_an_assertion_create_one_session(add, authenticator, ask, use):
    await add(authenticator)
    answer = authenticator.get(await ask())
    answers = await asyncio.gather(*(use(answer) for _ in range(6)))
    assert Counter(each.status_code for each in answers) == {200: 1, 401: 5}


async def test_unknown_challenge_is_refused(add, authenticator, ask, use, assert_error):
    await add(authenticator)
    options = await ask() | {"challenge": encode(secrets.token_bytes(64))}
    assert_error(await use(authenticator.get(options)), InvalidPasskeyException)


async def test_challenge_for_adding_cannot_sign_in(owner, add, authenticator, ask, use, assert_error):
    await add(authenticator)
    options = (await owner.post("/api/auth/passkeys/options")).json()["options"]
    asked = await ask() | {"challenge": options["challenge"]}
    assert_error(await use(authenticator.get(asked)), InvalidPasskeyException)


async def test_challenge_expires_after_five_minutes(add, authenticator, ask, use, db, assert_error):
    await add(authenticator)
    answer = authenticator.get(await ask())
    await db.execute(update(PasskeyChallenge).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert_error(await use(answer), InvalidPasskeyException)
    await ask()
    assert await db.scalar(select(func.count()).select_from(PasskeyChallenge)) == 1  # The expired challenge is deleted.


async def test_assertion_from_another_origin_or_for_another_site_is_refused(add, authenticator, ask, use, assert_error):
    await add(authenticator)
    assert_error(await use(authenticator.get(await ask() | {"rpId": "evil.example"})), InvalidPasskeyException)
    authenticator.origin = "https://evil.example"
    assert_error(await use(authenticator.get(await ask())), InvalidPasskeyException)


async def test_assertion_signed_by_another_key_is_refused(add, authenticator, ask, use, assert_error):
    await add(authenticator)
    forged = Authenticator(ORIGIN, id=authenticator.id, user_handle=authenticator.user_handle)
    assert_error(await use(forged.get(await ask())), InvalidPasskeyException)


async def test_assertion_for_another_user_is_refused(add, authenticator, ask, use, assert_error):
    await add(authenticator)
    authenticator.user_handle = encode(bytes(16))
    assert_error(await use(authenticator.get(await ask())), InvalidPasskeyException)


async def test_cloned_passkey_is_detected_by_its_count(add, authenticator, ask, use, assert_error):
    await add(authenticator)
    authenticator.sign_count = 7
    assert (await use(authenticator.get(await ask()))).status_code == 200
    authenticator.sign_count = 6
    assert_error(await use(authenticator.get(await ask())), InvalidPasskeyException)


@pytest.mark.both_databases
async def test_parallel_uses_of_cloned_passkeys_create_one_session(add, authenticator, ask, use):
    await add(authenticator)
    answers = []
    for options in (await ask(), await ask(), await ask()):
        authenticator.sign_count = 0
        answers.append(authenticator.get(options))
    statuses = Counter(each.status_code for each in await asyncio.gather(*map(use, answers)))
    assert statuses == {200: 1, 401: 2}


async def test_disabled_account_is_not_signed_in(add, authenticator, ask, use, db):
    await add(authenticator)
    await db.execute(update(User).values(is_active=False))
    assert (await use(authenticator.get(await ask()))).status_code == 401


NONSENSE = [
    {},
    {"id": 5},
    {"id": "\ud800", "rawId": "\ud800", "type": "public-key", "response": {}},
    {"id": "AA", "rawId": "AA", "type": "public-key", "response": None},
    {"id": "AA", "rawId": "AA", "type": "password", "response": {}},
]
CHALLENGES: list[Any] = [5, None, [], {}, "=", "a", "\ud800"]
CLIENT_DATA = ["", "AA", "€", encode(b"[]"), encode(b"null"), encode(b"\xff\xfe"), encode(b"[" * 100_000)] + [
    encode(json.dumps({"type": "webauthn.get", "challenge": each, "origin": ORIGIN}).encode()) for each in CHALLENGES
]


@pytest.mark.parametrize("credential", NONSENSE)
async def test_malformed_credential_is_refused(credential, owner, client, assert_error):
    content = json.dumps({"credential": credential, "name": "x"}).encode()
    headers = {"Content-Type": "application/json"}
    response = await owner.post("/api/auth/passkeys", content=content, headers=headers)
    assert response.status_code in {400, 422}
    content = json.dumps({"credential": credential}).encode()
    response = await client.post("/api/auth/passkeys/signin", content=content, headers=headers)
    assert response.status_code in {401, 422}


async def test_broken_client_data_is_refused(add, authenticator, ask, use, assert_error):
    for broken in CLIENT_DATA:
        assert_error(await add(Authenticator(ORIGIN), clientDataJSON=broken), PasskeyRefusedException)
        answer = authenticator.get(await ask())
        answer["response"]["clientDataJSON"] = broken
        assert_error(await use(answer), InvalidPasskeyException)


async def test_broken_attestation_is_refused(add, assert_error):
    wrong = cbor2.dumps({"fmt": 1, "attStmt": [], "authData": b""})
    for broken in ("", "AA", encode(cbor2.dumps({})), encode(wrong), encode(b"\x81" * 100_000)):
        assert_error(await add(Authenticator(ORIGIN), attestationObject=broken), PasskeyRefusedException)


async def test_name_is_required_and_extra_fields_are_refused(owner, assert_error):
    bodies: list[dict[str, Any]] = [
        {"credential": {}},
        {"credential": {}, "name": ""},
        {"credential": {}, "name": "x", "user_id": "y"},
    ]
    for body in bodies:
        assert_error(await owner.post("/api/auth/passkeys", json=body), UnprocessableException)


# Settings


async def test_passkeys_work_for_a_parent_domain_and_other_origins(kit, settings, owner):
    group = PasskeysSettings(rp_id="example.com")
    cors = settings.cors.model_copy(update={"origins": ("https://admin.example.com",)})
    kit.context.settings = kit.settings.model_copy(update={"passkeys": group, "cors": cors})
    options = (await owner.post("/api/auth/passkeys/options")).json()["options"]
    assert options["rp"]["id"] == "example.com"
    body = {"name": "Laptop", "credential": Authenticator("https://admin.example.com").create(options)}
    assert (await owner.post("/api/auth/passkeys", json=body)).status_code == 201


def test_passkeys_require_frontend_url_in_production(settings):
    production = settings.model_copy(update={"environment": "production", "frontend": FrontendSettings()})
    with pytest.raises(AppKitError, match="FRONTEND_URL"):
        passkeys.register_routers(production)
