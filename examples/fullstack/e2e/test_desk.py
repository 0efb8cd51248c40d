"""What people do at the desk, in a browser."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, expect

DEMO = ("demo@example.com", "paper-and-ink")
LEEWAY = 12_000  # Milliseconds after which the server calls a token of one second expired.


def sign_in(page: Page, email: str = DEMO[0], password: str = DEMO[1]) -> None:
    page.goto("/signin")
    fill_in(page, email, password)
    expect(page).to_have_url(re.compile(r"/desk$"))


def fill_in(page: Page, email: str, password: str) -> None:
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name=re.compile(r"^(Sign in|Create the account)$")).click()


def account(page: Page) -> None:
    expect(page.get_by_role("button", name="Account", exact=True)).to_be_visible()


def test_reader_finds_a_post_without_signing_in(page: Page) -> None:
    page.goto("/")
    page.get_by_role("main").get_by_role("article").first.get_by_role("link").first.click()
    expect(page).to_have_url(re.compile(r"/posts/"))
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("link", name="Sign in").last).to_have_attribute("href", re.compile(r"next=/posts/"))


def test_wrong_password_is_refused_in_words(page: Page) -> None:
    page.goto("/signin")
    fill_in(page, DEMO[0], "not the password")
    expect(page.get_by_role("alert")).to_contain_text("The e-mail address or the password is wrong.")
    expect(page).to_have_url(re.compile(r"/signin"))


def test_mistakes_are_shown_where_they_were_made(page: Page) -> None:
    page.goto("/signup")
    fill_in(page, "nobody", "a quiet desk by the window")
    expect(page.get_by_label("E-mail")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("E-mail")).to_have_accessible_description(re.compile("address"))


def test_page_that_needs_an_account_asks_for_it_and_comes_back(page: Page) -> None:
    page.goto("/exports")
    expect(page).to_have_url(re.compile(r"/signin"))
    fill_in(page, *DEMO)
    expect(page).to_have_url(re.compile(r"/exports$"))


def test_link_to_sign_in_leads_to_no_other_site(page: Page, base_url: str) -> None:
    page.goto("/signin?next=//example.org/")
    fill_in(page, *DEMO)
    expect(page).to_have_url(f"{base_url}/desk")


def test_newcomer_signs_up_writes_publishes_and_comments(page: Page) -> None:
    page.goto("/signup")
    fill_in(page, "newcomer@example.com", "a quiet desk by the window")
    account(page)
    expect(page.get_by_role("heading", name="A clean sheet")).to_be_visible()

    page.get_by_role("link", name="Write your first post").click()
    page.get_by_label("Title", exact=True).fill("On keeping a desk")
    page.get_by_label("Content, in Markdown").fill("Leave it **clear** at night. <b onclick='alert(1)'>Really.</b>")
    expect(page.get_by_role("region", name="Preview").locator("strong")).to_have_text("clear")
    page.get_by_role("button", name="Save draft").click()
    expect(page.get_by_text("Saved at")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/posts/.+/edit$"))
    page.get_by_role("button", name="Publish").click()

    expect(page.get_by_role("heading", name="On keeping a desk")).to_be_visible()
    expect(page.locator("article strong", has_text="clear")).to_be_visible()
    expect(page.locator("article b")).to_have_count(0)
    page.get_by_label("Add a comment").fill("And empty the bin.")
    page.get_by_role("button", name="Comment", exact=True).click()
    expect(page.get_by_role("region", name="Comments")).to_contain_text("And empty the bin.")

    page.get_by_role("link", name="Front page").click()
    expect(page.get_by_role("main").get_by_role("article").first).to_contain_text("On keeping a desk")


def test_words_are_not_lost_by_leaving_too_soon(page: Page) -> None:
    sign_in(page)
    page.get_by_role("link", name="Write", exact=True).click()
    page.get_by_label("Title", exact=True).fill("Half a thought")
    page.get_by_role("link", name="Front page").click()
    page.get_by_role("button", name="Stay here").click()
    expect(page.get_by_label("Title", exact=True)).to_have_value("Half a thought")
    page.get_by_role("link", name="Front page").click()
    page.get_by_role("button", name="Leave").click()
    expect(page.get_by_role("heading", name="The front page")).to_be_visible()


def test_author_exports_everything_as_a_pdf(page: Page) -> None:
    """The file is made in the background, and the page follows it until it is ready."""
    sign_in(page)
    page.get_by_role("link", name="Exports").click()
    page.get_by_role("button", name="Export my work").click()
    expect(page.get_by_role("progressbar", name="Export")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").first.click(timeout=30_000)
    assert Path(download.value.path()).read_bytes().startswith(b"%PDF")


def test_session_outlives_its_access_token_with_one_refresh_for_all_tabs(page: Page) -> None:
    sign_in(page)
    other = page.context.new_page()
    other.goto("/exports")
    account(other)
    refreshes: list[str] = []

    def note(request: Request) -> None:
        if request.url.endswith("/auth/refresh"):
            refreshes.append(request.url)

    page.context.on("request", note)
    page.wait_for_timeout(LEEWAY)
    for tab, name in ((page, "Exports"), (other, "Your desk")):
        tab.get_by_role("link", name=name).first.click(no_wait_after=True)
    for tab, name in ((page, "Exports"), (other, "Your desk")):
        expect(tab.get_by_role("heading", level=1, name=name)).to_be_visible()
        expect(tab.get_by_text("This didn’t load")).to_have_count(0)
        tab.wait_for_load_state("networkidle")
    assert len(refreshes) == 1


def test_signing_out_takes_effect_in_every_tab(page: Page) -> None:
    sign_in(page)
    other = page.context.new_page()
    other.goto("/desk")
    account(other)
    page.get_by_role("button", name="Account", exact=True).click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in").first).to_be_visible()
    other.get_by_role("link", name="Exports").click()
    expect(other).to_have_url(re.compile(r"/signin\?next=/exports"))


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_suit_everybody(page: Page, check_accessibility: Callable[[], None], scheme: str, width: int) -> None:
    """Contrast, names and roles on every page, in both themes, and nothing wider than a phone."""

    def check() -> None:
        check_accessibility()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page.url

    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 860})
    page.goto("/signup")
    fill_in(page, "nobody", "short")
    expect(page.get_by_label("E-mail")).to_have_attribute("aria-invalid", "true")
    check()
    sign_in(page)
    for path in ("/", "/desk", "/write", "/exports", "/no-such-page"):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        check()
    page.goto("/")
    page.get_by_role("main").get_by_role("article").first.get_by_role("link").first.click()
    page.wait_for_load_state("networkidle")
    page.get_by_role("button", name="Account", exact=True).click()
    check()
