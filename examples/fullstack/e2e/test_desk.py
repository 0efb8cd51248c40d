"""Everyday use of the app, in a browser."""

import re

from people import DEMO, account, expire, fill_in, sign_in
from playwright.sync_api import Page, expect


def test_reader_finds_a_post_without_signing_in(page: Page) -> None:
    page.goto("/")
    page.get_by_role("main").get_by_role("article").first.get_by_role("link").first.click()
    expect(page).to_have_url(re.compile(r"/posts/"))
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("link", name="Sign in").last).to_have_attribute("href", re.compile(r"next=/posts/"))


def test_wrong_password_shows_a_message(page: Page) -> None:
    page.goto("/signin")
    fill_in(page, DEMO[0], "not the password")
    expect(page.get_by_role("alert")).to_contain_text("The e-mail address or the password is wrong.")
    expect(page).to_have_url(re.compile(r"/signin"))


def test_validation_errors_are_shown_at_their_fields(page: Page) -> None:
    page.goto("/signup")
    fill_in(page, "nobody", "a quiet desk by the window", "Create the account")
    expect(page.get_by_label("E-mail")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("E-mail")).to_have_accessible_description(re.compile("address"))


def test_protected_page_redirects_to_sign_in_and_back(page: Page, base_url: str) -> None:
    page.goto("/exports")
    expect(page).to_have_url(f"{base_url}/signin?next=/exports")
    fill_in(page, *DEMO)
    expect(page).to_have_url(f"{base_url}/exports")


def test_sign_in_redirects_to_no_other_site(page: Page, base_url: str) -> None:
    page.goto("/signin?next=//example.org/")
    fill_in(page, *DEMO)
    expect(page).to_have_url(f"{base_url}/desk")


def test_unsaved_text_is_not_lost_on_leaving(page: Page) -> None:
    sign_in(page)
    page.get_by_role("link", name="Write", exact=True).click()
    page.get_by_label("Title", exact=True).fill("Half a thought")
    page.get_by_role("link", name="Front page").click()
    page.get_by_role("button", name="Stay here").click()
    expect(page.get_by_label("Title", exact=True)).to_have_value("Half a thought")
    page.get_by_role("link", name="Front page").click()
    page.get_by_role("button", name="Leave").click()
    expect(page.get_by_role("heading", name="The front page")).to_be_visible()


def test_list_state_is_kept_in_the_url(page: Page) -> None:
    sign_in(page)
    page.get_by_role("button", name="Published").click()
    expect(page).to_have_url(re.compile(r"/desk\?show=published$"))
    page.get_by_role("button", name="Title").click()
    expect(page.get_by_role("columnheader", name="Title")).to_have_attribute("aria-sort", "ascending")
    page.get_by_label("Search your posts").fill("bread")
    expect(page).to_have_url(re.compile(r"/desk\?q=bread&show=published&sort=title$"))
    expect(page.get_by_role("row")).to_have_count(2)
    page.reload()
    expect(page.get_by_label("Search your posts")).to_have_value("bread")
    expect(page.get_by_role("row").nth(1)).to_contain_text("Bread for people who sleep in")
    page.go_back()
    expect(page).to_have_url(re.compile(r"/desk\?show=published$"))


def test_admin_page_refuses_other_users(page: Page) -> None:
    sign_in(page, "mara@example.com")
    page.goto("/admin/users")
    expect(page.get_by_role("heading", name="Not your desk")).to_be_visible()


def test_session_outlives_its_access_token(page: Page) -> None:
    sign_in(page)
    expect(page.get_by_role("row")).not_to_have_count(0)
    expire(page.context)
    with page.expect_response("**/api/auth/refresh") as refreshed:
        page.reload()
    assert refreshed.value.status == 200
    account(page)
    expect(page.get_by_role("row")).not_to_have_count(0)


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
