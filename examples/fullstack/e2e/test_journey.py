"""One user's journey through the whole app, from a guest to an account with two factors.

Once on SQLite alone, and once on what it is deployed with: PostgreSQL, Redis, and a worker in a process of its own.
"""

import re
from pathlib import Path

import pyotp
import pytest
from conftest import Mailbox
from people import PASSWORD, account, call, expire, fill_in, join, sign_out
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pypdf import PdfReader

WRITER = "writer@example.com"


@pytest.mark.parametrize("base_url", ["sqlite", "redis"], indirect=True)
def test_the_whole_journey(
    browser: Browser, context: BrowserContext, page: Page, base_url: str, mails: Mailbox, browser_context_args: dict
) -> None:
    guest_signs_up_and_verifies(page, mails)
    post = writes_and_publishes(page)
    somebody_else_comments(browser, browser_context_args, base_url, post)
    expire(context)
    page.goto(post)
    expect(page.get_by_role("region", name="Comments")).to_contain_text("And empty the bin.")
    account(page)
    exports_everything(context, page, base_url)
    ends_the_other_session(browser, browser_context_args, page)
    sets_up_two_factors_and_comes_back(page)
    sign_out(page)


def guest_signs_up_and_verifies(page: Page, mails: Mailbox) -> None:
    page.goto("/settings/profile")
    expect(page).to_have_url(re.compile(r"/signin\?next=/settings/profile$"))
    page.get_by_role("link", name="Create an account").click()
    fill_in(page, WRITER, PASSWORD, "Create the account")
    expect(page.get_by_text("Not verified")).to_be_visible()
    page.goto(mails.link(WRITER, "verify-email"))
    expect(page.get_by_role("heading", name="Your address is verified")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/verify-email$"))
    page.get_by_role("link", name="Go to your desk").click()
    expect(page.get_by_role("heading", name="A clean sheet")).to_be_visible()


def writes_and_publishes(page: Page) -> str:
    page.get_by_role("link", name="Write your first post").click()
    page.get_by_label("Title", exact=True).fill("On keeping a desk")
    page.get_by_label("Content, in Markdown").fill("Leave it **clear** at night. <b onclick='alert(1)'>Really.</b>")
    expect(page.get_by_role("region", name="Preview").locator("strong")).to_have_text("clear")
    expect(page.get_by_text("Saved at")).to_be_visible()  # Saved automatically.
    expect(page).to_have_url(re.compile(r"/posts/.+/edit$"))
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_role("heading", name="On keeping a desk")).to_be_visible()
    expect(page.locator("article strong", has_text="clear")).to_be_visible()
    expect(page.locator("article b")).to_have_count(0)
    return page.url


def somebody_else_comments(browser: Browser, arguments: dict, base_url: str, post: str) -> None:
    with browser.new_context(**arguments) as elsewhere:
        join(elsewhere, base_url, "reader@example.com")
        page = elsewhere.new_page()
        page.goto(post)
        page.get_by_label("Add a comment").fill("And empty the bin.")
        page.get_by_role("button", name="Comment", exact=True).click()
        expect(page.get_by_role("region", name="Comments")).to_contain_text("And empty the bin.")


def exports_everything(context: BrowserContext, page: Page, base_url: str) -> None:
    """Write enough posts for the progress bar to be seen."""
    for number in range(60):
        content = f"# Chapter {number}\n\n" + "Words, *words*, words.\n\n" * 120
        call(context, base_url, "/posts", {"title": f"Chapter {number}", "content": content})
    page.get_by_role("link", name="Exports").first.click()
    page.evaluate(
        """() => {
          const seen = (window.seenProgress = new Set())
          new MutationObserver(() => {
            const bar = document.querySelector('main [role=progressbar][aria-label="Export"]')
            const value = bar?.getAttribute('aria-valuenow')
            if (value) seen.add(value)
          }).observe(document.body, {subtree: true, childList: true, attributes: true})
        }"""
    )
    page.get_by_role("button", name="Export my work").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    seen = page.evaluate("[...window.seenProgress].map(Number)")
    assert seen == sorted(seen)
    assert len(seen) > 4
    text = "".join(part.extract_text() for part in PdfReader(Path(download.value.path())).pages)
    assert "On keeping a desk" in text
    assert "Chapter 59" in text


def ends_the_other_session(browser: Browser, arguments: dict, page: Page) -> None:
    with browser.new_context(**{**arguments, "user_agent": "Mozilla/5.0 (iPhone) Version/19.0 Safari/604.1"}) as phone:
        other = phone.new_page()
        other.goto("/signin")
        fill_in(other, WRITER, PASSWORD)
        account(other)
        page.goto("/settings/sessions")
        page.get_by_role("button", name="Sign out Safari on iPhone").click()
        expect(page.get_by_role("listitem").filter(has_text="Safari on iPhone")).to_have_count(0)
        other.get_by_role("link", name="Exports").first.click()
        expect(other).to_have_url(re.compile(r"/signin\?next=/exports$"))


def sets_up_two_factors_and_comes_back(page: Page) -> None:
    page.goto("/settings/security")
    page.get_by_role("button", name="Set it up").click()
    expect(page.get_by_role("img", name="QR code for your authenticator app")).to_be_visible()
    secret = page.locator("form code").inner_text()
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Turn it on").click()
    expect(page.get_by_role("alert").filter(has_text=re.compile("code"))).to_be_visible()
    page.get_by_label("Code").fill(pyotp.TOTP(secret).now())
    page.get_by_role("button", name="Turn it on").click()
    recovery = page.locator(".recovery code").first.inner_text()
    page.get_by_role("button", name="I have kept them").click()
    expect(page.get_by_text("10 recovery codes left")).to_be_visible()
    sign_out(page)

    page.goto("/signin")
    fill_in(page, WRITER, PASSWORD)
    expect(page.get_by_role("heading", name="One more thing")).to_be_visible()
    page.get_by_role("button", name="Use a recovery code").click()
    page.get_by_label("Recovery code").fill(recovery)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile(r"/desk$"))
    page.goto("/settings/security")
    expect(page.get_by_text("9 recovery codes left")).to_be_visible()
