"""Every page: accessibility in both themes, desktop and phone layout, load size and layout shifts."""

import re
from collections.abc import Callable
from statistics import median

import pytest
from people import PASSWORD, account, call, enter, fill_in
from playwright.sync_api import BrowserContext, Page, Response, expect

DESK, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
GUESTS = ["/", "/?q=bread", "/signin", "/signup", "/forgot-password", "/reset-password#token=x", "/verify-email"]
MEMBERS = [
    "/desk",
    "/desk?q=nothing-like-it",
    "/write",
    "/exports",
    "/settings/profile",
    "/settings/password",
    "/settings/security",
    "/settings/sessions",
    "/settings/keys",
    "/settings/appearance",
    "/settings/data",
    "/admin/users",
    "/admin/tasks",
    "/admin/audit",
    "/admin/audit?kind=NoSuchThing",
    "/forbidden",
    "/no-such-page",
]
MAX_BYTES = 90_000  # Bytes of JavaScript and CSS before the first paint, compressed.


@pytest.fixture
def check(page: Page, check_accessibility: Callable[[], None]) -> Callable[[], None]:
    def check() -> None:
        """Check contrast, names and roles in both themes, and that nothing is wider than a phone."""
        page.wait_for_load_state("networkidle")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
            check_accessibility()
        page.set_viewport_size(PHONE)  # type: ignore[arg-type] # a dict is a ViewportSize
        check_accessibility()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page.url
        page.set_viewport_size(DESK)  # type: ignore[arg-type] # likewise

    return check


@pytest.mark.parametrize("path", GUESTS)
def test_page_is_accessible_for_guests(page: Page, check: Callable[[], None], path: str) -> None:
    page.goto(path)
    check()


@pytest.mark.parametrize("path", MEMBERS)
def test_page_is_accessible_for_users(
    context: BrowserContext, page: Page, base_url: str, check: Callable[[], None], path: str
) -> None:
    enter(context, base_url)
    page.goto(path)
    check()


def test_errors_menus_and_dialogs_are_accessible(
    context: BrowserContext, page: Page, base_url: str, check: Callable[[], None]
) -> None:
    page.goto("/signup")
    fill_in(page, "nobody", "short", "Create the account")
    expect(page.get_by_label("E-mail")).to_have_attribute("aria-invalid", "true")
    check()
    enter(context, base_url)
    page.goto("/")
    page.get_by_role("main").get_by_role("article").first.get_by_role("link").first.click()
    expect(page).to_have_url(re.compile("/posts/"))
    page.get_by_role("button", name="Account", exact=True).click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    check()
    page.goto("/desk")
    page.get_by_role("button", name=re.compile("^Actions for")).first.click()
    expect(page.get_by_role("menuitem", name="Delete")).to_be_visible()
    check()
    page.get_by_role("menuitem", name="Delete").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    check()
    page.goto("/settings/security")
    page.get_by_role("button", name="Set it up").click()
    expect(page.get_by_role("img", name="QR code for your authenticator app")).to_be_visible()
    check()


def test_pages_are_translated_to_german(page: Page, check: Callable[[], None]) -> None:
    page.add_init_script("localStorage.setItem('pilcrow.language', 'de')")
    page.goto("/signup")
    fill_in_german(page)
    expect(page.get_by_text("Gib eine E-Mail-Adresse ein")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    check()


def fill_in_german(page: Page) -> None:
    page.get_by_label("E-Mail").fill("nobody")
    page.get_by_label("Passwort", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Konto anlegen").click()


def test_front_page_loads_quickly_without_layout_shifts(page: Page, base_url: str) -> None:
    """Bytes before the first paint are limited, nothing shifts, and the largest paint is printed."""
    sizes: dict[str, int] = {}

    def weigh(response: Response) -> None:
        if response.request.resource_type in {"script", "stylesheet"}:
            sizes[response.url] = response.request.sizes()["responseBodySize"]

    page.on("response", weigh)
    page.goto("/")
    page.wait_for_load_state("networkidle")
    total = sum(sizes.values())
    paints = [largest_paint(page) for _ in range(5)]
    print(f"\nFirst paint: {total:,} bytes of JavaScript and CSS. Largest paint: {median(paints):.0f} ms.")
    assert total < MAX_BYTES, sizes


@pytest.mark.parametrize("path", ["/", "/desk", "/exports", "/settings/sessions", "/admin/users", "/signin"])
def test_page_loads_without_layout_shifts(context: BrowserContext, page: Page, base_url: str, path: str) -> None:
    if path != "/signin":
        enter(context, base_url)
    page.goto(path)
    page.wait_for_load_state("networkidle")
    moved = page.evaluate(
        """() => new Promise(resolve => new PerformanceObserver(list => resolve(list.getEntries()
          .filter(entry => !entry.hadRecentInput).map(entry => [entry.value,
            entry.sources.map(source => source.node?.outerHTML?.slice(0, 80))])))
          .observe({type: 'layout-shift', buffered: true}) || setTimeout(() => resolve([]), 50))"""
    )
    assert sum(value for value, _ in moved) < 0.01, moved


def largest_paint(page: Page) -> float:
    page.goto("/")
    page.wait_for_load_state("networkidle")
    return float(
        page.evaluate(
            """() => new Promise(resolve => new PerformanceObserver(
              list => resolve(list.getEntries().at(-1).startTime)
            ).observe({type: 'largest-contentful-paint', buffered: true}))"""
        )
    )


def test_post_can_be_written_with_the_keyboard(context: BrowserContext, page: Page, base_url: str) -> None:
    enter(context, base_url)
    page.goto("/")
    account(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.goto("/desk")
    page.get_by_role("button", name=re.compile("^Actions for")).first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Edit")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/edit$"))
    expect(page.get_by_label("Content, in Markdown")).not_to_have_value("")
    page.get_by_label("Content, in Markdown").press("Control+a")
    page.keyboard.press("Control+b")
    expect(page.get_by_label("Content, in Markdown")).to_have_value(re.compile(r"^\*\*"))


def test_forgotten_password_is_reset_by_mail(context: BrowserContext, page: Page, base_url: str, mails) -> None:
    call(context, base_url, "/auth/signup", {"email": "forgetful@example.com", "password": PASSWORD})
    context.clear_cookies()
    page.goto("/signin")
    page.get_by_role("link", name="Forgot your password?").click()
    send = page.get_by_role("button", name="Send the link")
    page.locator("form").filter(has=send).get_by_label("E-mail").fill("forgetful@example.com")
    send.click()
    expect(page.get_by_role("heading", name="Look into your mail")).to_be_visible()
    page.goto(mails.link("forgetful@example.com", "reset-password"))
    page.get_by_label("New password").fill("another quiet desk")
    page.get_by_role("button", name="Set the password").click()
    expect(page).to_have_url(re.compile(r"/signin$"))
    fill_in(page, "forgetful@example.com", "another quiet desk")
    expect(page).to_have_url(re.compile(r"/desk$"))
