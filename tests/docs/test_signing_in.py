"""Snippets of the pages on sign-in plugins, roles and audit."""

import json
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pyotp
import pytest

pytestmark = pytest.mark.slow  # A server is started for each test.
ACCOUNT = {"email": "ada@example.com", "password": "correct horse battery"}
PROVIDER = Path(__file__).parents[1] / "contrib" / "oidc_provider.py"


def verify_addresses(directory: Path) -> None:
    with sqlite3.connect(directory / "app.db") as database:
        database.execute("UPDATE user SET email_verified_at = CURRENT_TIMESTAMP")
    database.close()


def test_second_factor_opens_routes_that_require_it(folder, serve):
    directory = folder("totp")
    with serve(directory, "totp:app") as browser:
        browser.post("/api/auth/signup", json=ACCOUNT)
        verify_addresses(directory)
        secret = browser.post("/api/auth/mfa/totp/setup").json()["secret"]
        code = pyotp.TOTP(secret).now()
        confirmed = browser.post("/api/auth/mfa/totp/confirm", json={"code": code})
        if confirmed.status_code == 403:  # The 30 seconds had just passed.
            confirmed = browser.post("/api/auth/mfa/totp/confirm", json={"code": pyotp.TOTP(secret).now()})
        recovery_codes = confirmed.json()["recovery_codes"]
        assert browser.post("/api/payouts").status_code == 403

        answer = browser.post("/api/auth/signin", json=ACCOUNT).json()
        assert answer["mfa_required"]
        assert browser.post("/api/payouts").status_code == 401
        body = {"challenge": answer["challenge"], "code": recovery_codes[0]}
        assert browser.post("/api/auth/mfa/verify", json=body).status_code == 200
        assert browser.post("/api/payouts").status_code == 201


def test_magic_link_signs_in(folder, serve):
    directory = folder("magic_link")
    with serve(directory, "magic_link:app") as browser:
        browser.post("/api/auth/signup", json=ACCOUNT)
        browser.cookies.clear()
        assert browser.post("/api/auth/magic", json={"email": ACCOUNT["email"]}).status_code == 202
        token = wait_for_token(directory / "server.log")
        assert browser.post("/api/auth/magic/signin", json={"token": token}).json()["email"] == ACCOUNT["email"]
        assert browser.get("/api/auth/me").status_code == 200


def test_api_key_opens_routes_of_its_scope(folder, serve):
    directory = folder("api_keys")
    with serve(directory, "api_keys:app") as browser:
        browser.post("/api/auth/signup", json=ACCOUNT)
        verify_addresses(directory)
        body = {"name": "Nightly", "scopes": ["reports:read"]}
        key = browser.post("/api/auth/api-keys", json=body).json()["key"]
        browser.cookies.clear()
        headers = {"Authorization": f"Bearer {key}"}
        assert browser.get("/api/reports", headers=headers).json() == "The reports of ada@example.com."
        assert browser.get("/api/auth/me", headers=headers).status_code == 403


def test_role_permits_publishing(folder, serve, python):
    directory = folder("roles")
    with serve(directory, "roles:app") as browser:
        browser.post("/api/auth/signup", json=ACCOUNT)
        assert browser.post("/api/posts/publish").json()["internal_code"] == 40275
        said = [
            python(directory, "-m", "appkit", "roles", *words)
            for words in (["define", "editor", "posts:*", "files:read"], ["grant", ACCOUNT["email"], "editor"])
        ]
        assert said == [
            "Role editor now has the permissions files:read, posts:*.\n",
            "ada@example.com now has the role editor.\n",
        ]
        assert browser.post("/api/posts/publish").json() == "Published."


def test_audit_trail_says_who_changed_what(folder, serve):
    directory = folder("audit")
    with serve(directory, "audit:app") as browser:
        user_id = browser.post("/api/auth/signup", json=ACCOUNT).json()["id"]
        invoice_id = browser.post("/api/invoices?amount=100").json()
        with sqlite3.connect(directory / "app.db") as database:
            database.execute("UPDATE user SET is_superuser = 1")
        database.close()
        (entry,) = browser.get("/api/audit?kind=invoice.created").json()["items"]
        assert (entry["actor_id"], entry["subject"]) == (user_id, invoice_id)
        assert entry["data"] == {"amount": [None, 100], "remarks": ["…", "…"]}


def wait_for_token(log: Path) -> str:
    """The token in the mail that the server printed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := re.search(r"continue here:\n\n([\w-]+)\n", log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_provider_account_signs_in(folder, serve, environment):
    with subprocess.Popen([sys.executable, PROVIDER], stdout=subprocess.PIPE, text=True) as provider:
        assert provider.stdout is not None
        issuer = f"http://127.0.0.1:{provider.stdout.readline().strip()}"
        client = {"client_id": "desk", "client_secret": "a secret that the provider gave out", "issuer": issuer}
        environment["OAUTH_PROVIDERS"] = json.dumps({"desk": client})
        try:
            with serve(folder("oauth"), "oauth:app") as browser:
                person = {"sub": "1", "email": ACCOUNT["email"], "email_verified": True}
                httpx2.put(f"{issuer}/person", json=person).raise_for_status()
                begun = browser.post("/api/auth/oauth/desk/start", json={"next": "/api/auth/me"}).json()
                back = httpx2.get(begun["authorization_url"]).headers["location"]
                assert browser.get(back, follow_redirects=True).json()["email"] == ACCOUNT["email"]
        finally:
            provider.terminate()
