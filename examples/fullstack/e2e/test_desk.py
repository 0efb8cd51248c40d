"""What people do at the desk, in a browser."""

import re
from pathlib import Path

from playwright.sync_api import Page, expect

DEMO = ("demo@example.com", "paper-and-ink")


def sign_in(page: Page, email: str, password: str) -> None:
    page.goto("/signin")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_reader_finds_a_post_without_signing_in(page: Page) -> None:
    page.goto("/")
    page.get_by_role("main").get_by_role("article").first.get_by_role("link").first.click()
    expect(page).to_have_url(re.compile(r"/posts/"))
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_wrong_password_is_refused_in_words(page: Page) -> None:
    sign_in(page, DEMO[0], "not the password")
    expect(page.get_by_role("alert")).to_contain_text("The e-mail address or the password is wrong.")
    expect(page).to_have_url(re.compile(r"/signin"))


def test_page_that_needs_an_account_asks_for_it_and_comes_back(page: Page) -> None:
    page.goto("/exports")
    expect(page).to_have_url(re.compile(r"/signin"))
    page.get_by_label("E-mail").fill(DEMO[0])
    page.get_by_label("Password", exact=True).fill(DEMO[1])
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile(r"/exports"))


def test_newcomer_signs_up_writes_and_publishes(page: Page) -> None:
    page.goto("/signup")
    page.get_by_label("E-mail").fill("newcomer@example.com")
    page.get_by_label("Password", exact=True).fill("a quiet desk by the window")
    page.get_by_role("button", name="Create the account").click()
    expect(page.get_by_role("button", name="Account")).to_be_visible()

    page.goto("/write")
    page.get_by_label("Title", exact=True).fill("On keeping a desk")
    page.get_by_label("Content, in Markdown").fill("Leave it **clear** at night.")
    page.get_by_role("button", name="Publish").click()

    expect(page.get_by_role("heading", name="On keeping a desk")).to_be_visible()
    expect(page.locator("strong", has_text="clear")).to_be_visible()
    page.goto("/")
    expect(page.get_by_role("main")).to_contain_text("On keeping a desk")


def test_author_exports_everything_as_a_pdf(page: Page) -> None:
    """The file is made in the background, and the page follows it until it is ready."""
    sign_in(page, *DEMO)
    expect(page.get_by_role("button", name="Account")).to_be_visible()
    page.goto("/exports")
    page.get_by_role("button", name="Export my work").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").first.click(timeout=30_000)
    assert Path(download.value.path()).read_bytes().startswith(b"%PDF")


def test_signing_out_takes_effect_in_every_tab(page: Page) -> None:
    sign_in(page, *DEMO)
    other = page.context.new_page()
    other.goto("/desk")
    expect(other.get_by_role("button", name="Account")).to_be_visible()
    page.get_by_role("button", name="Account").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in").first).to_be_visible()
    other.goto("/desk")
    expect(other).to_have_url(re.compile(r"/signin"))
