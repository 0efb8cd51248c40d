"""The script of the page on passkeys, in Chromium with a virtual authenticator."""

import os
import re
import sqlite3
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.async_api", reason="Playwright is not installed.")

CHROMIUM = Path("/usr/bin/chromium")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "passkeys.md"
ACCOUNT = {"email": "ada@example.com", "password": "correct horse battery"}
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}

pytestmark = pytest.mark.slow


@pytest.fixture
def served(folder, serve):
    """Serve the snippet on localhost, and create a user with a verified address."""
    if not CHROMIUM.exists():
        reason = f"There is no browser at {CHROMIUM}: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    directory = folder("passkeys")
    with serve(directory, "passkeys:app") as browser:
        browser.post("/api/auth/signup", json=ACCOUNT).raise_for_status()
        with sqlite3.connect(directory / "app.db") as database:
            database.execute("UPDATE user SET email_verified_at = CURRENT_TIMESTAMP")
        database.close()
        yield str(browser.base_url).replace("127.0.0.1", "localhost")


@pytest.fixture
def new_page():
    """A browser page with a virtual authenticator, and a function that configures it."""

    @asynccontextmanager
    async def new_page(address):
        async with playwright.async_playwright() as started:
            args = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
            browser = await started.chromium.launch(executable_path=str(CHROMIUM), args=args)
            context = await browser.new_context(bypass_csp=True)  # The pages are API responses with a strict policy.
            page = await context.new_page()
            devtools = await context.new_cdp_session(page)
            await devtools.send("WebAuthn.enable")
            added = await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
            await page.goto(f"{address}/api/ping")
            (script,) = re.findall(r"```js\n(.*?)```", PAGE.read_text(), re.DOTALL)
            await page.add_script_tag(content=script)

            async def verify(*, verified: bool) -> None:
                await devtools.send("WebAuthn.setUserVerified", added | {"isUserVerified": verified})

            yield page, verify
            await browser.close()

    return new_page


SIGN_IN = """account => fetch('/api/auth/signin', {
    method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(account)})"""
ME = "() => fetch('/api/auth/me').then(answer => answer.json()).then(user => user.email ?? null)"
REFUSED = "() => signIn().then(() => null, error => error.name)"


async def test_passkey_page_script_adds_a_passkey_and_signs_in(served, new_page):
    async with new_page(served) as (page, verify):
        await page.evaluate(SIGN_IN, ACCOUNT)
        added = await page.evaluate("() => addPasskey('This laptop')")
        assert added["name"] == "This laptop"
        await page.context.clear_cookies()
        assert await page.evaluate(ME) is None

        user = await page.evaluate("() => signIn()")
        assert user["email"] == ACCOUNT["email"]
        assert await page.evaluate(ME) == ACCOUNT["email"]

        await page.context.clear_cookies()
        await verify(verified=False)  # An unknown fingerprint.
        assert await page.evaluate(REFUSED) == "NotAllowedError"
        assert await page.evaluate(ME) is None
