"""Signing in with passkeys, with the browser's virtual authenticator."""

import re

import pytest
from conftest import Mailbox
from people import account, join, sign_out
from playwright.sync_api import BrowserContext, Page, expect

OWNER = "passkeys@example.com"
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture
def owner(context: BrowserContext, page: Page, base_url: str, mails: Mailbox) -> Page:
    """A page signed in as a user with a verified address, and a virtual authenticator."""
    devtools = context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    join(context, base_url, OWNER)
    page.goto(mails.link(OWNER, "verify-email"))
    expect(page.get_by_role("heading", name="Your address is verified")).to_be_visible()
    return page


def test_passkey_is_added_signs_in_and_is_removed(owner: Page) -> None:
    owner.goto("/settings/security")
    owner.get_by_label("Name of the passkey").fill("This laptop")
    owner.get_by_role("button", name="Add a passkey").click()
    passkey = owner.get_by_role("listitem").filter(has_text="This laptop")
    expect(passkey).to_be_visible()
    sign_out(owner)

    owner.goto("/signin")
    owner.get_by_role("button", name="Sign in with a passkey").click()
    expect(owner).to_have_url(re.compile(r"/desk$"))
    account(owner)

    owner.goto("/settings/security")
    expect(passkey).to_contain_text("Used")
    owner.get_by_role("button", name="Remove This laptop").click()
    expect(passkey).to_have_count(0)
    sign_out(owner)

    owner.goto("/signin")
    owner.get_by_role("button", name="Sign in with a passkey").click()
    expect(owner.get_by_role("alert")).to_be_visible()
    expect(owner).to_have_url(re.compile(r"/signin$"))
