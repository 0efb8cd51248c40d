"""Common actions of users."""

import re
from collections.abc import Callable

import demo
import jwt
from appkit.core.keys import KeyRing
from playwright.sync_api import BrowserContext, Page, expect

PASSWORD = "a quiet desk by the window"
DEMO = ("demo@example.com", "paper-and-ink")
PATIENCE = 60_000

expect.set_options(timeout=PATIENCE)


def sign_in(page: Page, email: str = DEMO[0], password: str = DEMO[1]) -> None:
    """Sign in with the form, and wait for the desk."""
    page.goto("/signin")
    fill_in(page, email, password)
    expect(page).to_have_url(re.compile(r"/desk$"))


def fill_in(page: Page, email: str, password: str, button: str = "Sign in") -> None:
    """Fill in and submit the form with this button; the previous page may have another form."""
    send = page.get_by_role("button", name=button, exact=True)
    form = page.locator("form").filter(has=send)
    form.get_by_label("E-mail").fill(email)
    form.get_by_label("Password", exact=True).fill(password)
    send.click()


def call(context: BrowserContext, base_url: str, path: str, data: object) -> dict[str, object]:
    """Send an API request as the page in this context would."""
    answer = context.request.post(f"{base_url}/api{path}", data=data, headers={"Origin": base_url})
    assert answer.ok, answer.text()
    return dict(answer.json())


def enter(context: BrowserContext, base_url: str, email: str = DEMO[0], password: str = DEMO[1]) -> None:
    """Sign in through the API, for tests that are not about the form."""
    call(context, base_url, "/auth/signin", {"email": email, "password": password})


def join(context: BrowserContext, base_url: str, email: str) -> None:
    """Sign up through the API."""
    call(context, base_url, "/auth/signup", {"email": email, "password": PASSWORD})


def expire(context: BrowserContext) -> None:
    """Let the access token expire, as after an hour's pause."""
    (cookie,) = (cookie for cookie in context.cookies() if cookie["name"] == "pilcrow_at")
    claims = jwt.decode(cookie["value"], options={"verify_signature": False})
    key, headers = KeyRing([demo.SECRET.encode()]).current.access, jwt.get_unverified_header(cookie["value"])
    token = jwt.encode(claims | {"exp": claims["iat"] - 3600}, key, headers=headers)
    context.add_cookies([{**cookie, "value": token}])


def wait_until(page: Page, met: Callable[[], bool]) -> None:
    """Wait in the browser until a condition is met."""
    for _ in range(PATIENCE // 50):
        if met():
            return
        page.wait_for_timeout(50)
    raise AssertionError("It did not happen.")


def account(page: Page) -> None:
    """Check that a user is signed in."""
    expect(page.get_by_role("button", name="Account", exact=True)).to_be_visible()


def sign_out(page: Page) -> None:
    """Sign out with the menu."""
    page.get_by_role("button", name="Account", exact=True).click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in").first).to_be_visible()
