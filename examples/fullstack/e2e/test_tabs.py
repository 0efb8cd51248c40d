"""Two tabs of one browser, whose access expires at the same moment."""

import re
from collections import defaultdict
from collections.abc import Callable
from urllib.parse import urlsplit

from playwright.sync_api import Page, Response, Route, expect

LEEWAY = 12_000  # Milliseconds after which the server calls a token of one second expired.
LATE = 1_500  # Milliseconds that the new tokens take to arrive: time for every request to find that it is too late.
REFRESH = "POST /api/auth/refresh"


def sign_in(page: Page) -> None:
    page.goto("/signin")
    page.get_by_label("E-mail").fill("demo@example.com")
    page.get_by_label("Password", exact=True).fill("paper-and-ink")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page).to_have_url(re.compile(r"/desk$"))


def watch(page: Page) -> dict[str, list[int]]:
    """What each request of all tabs is answered, in order."""
    answers: dict[str, list[int]] = defaultdict(list)

    def note(response: Response) -> None:
        path = urlsplit(response.url).path
        if path.startswith("/api/"):
            answers[f"{response.request.method} {path}"].append(response.status)

    page.context.on("response", note)
    return answers


def hold(page: Page) -> None:
    """Let the refresh take its time, in every tab."""

    def wait(route: Route) -> None:
        page.wait_for_timeout(LATE)
        route.continue_()

    page.context.route("**/api/auth/refresh", wait)


def wait_until(page: Page, met: Callable[[], bool]) -> None:
    """Let the browser work until a condition is met, for ten seconds at most."""
    for _ in range(100):
        if met():
            return
        page.wait_for_timeout(100)


def test_tabs_refresh_once_between_them_and_repeat_each_request_once(page: Page) -> None:
    sign_in(page)
    page.get_by_role("link", name="Front page").click()
    page.get_by_role("main").get_by_role("article").first.get_by_role("link").first.click()
    page.get_by_label("Add a comment").fill("Said once, though it was sent twice.")
    other = page.context.new_page()
    other.goto("/desk")
    expect(other.get_by_role("heading", level=1, name="Your desk")).to_be_visible()
    other.wait_for_load_state("networkidle")
    page.wait_for_timeout(LEEWAY)
    hold(page)
    answers = watch(page)

    page.get_by_role("button", name="Comment", exact=True).click(no_wait_after=True)
    other.get_by_role("link", name="Exports").first.click(no_wait_after=True)

    expect(page.get_by_role("region", name="Comments")).to_contain_text("Said once")
    expect(other.get_by_role("heading", level=1, name="Exports")).to_be_visible()
    wait_until(page, lambda: REFRESH in answers and all(len(sent) > 1 for sent in answers.values() if 401 in sent))
    page.context.unroute_all(behavior="wait")
    assert answers.pop(REFRESH) == [200]
    refused = {request: statuses for request, statuses in answers.items() if 401 in statuses}
    assert any(request.startswith("POST /api/posts/") for request in refused)
    assert "GET /api/exports" in refused
    for request, statuses in refused.items():
        assert statuses[0] == 401, request
        assert statuses.count(401) == 1, request
        assert len(statuses) == 2, request
        assert statuses[1] < 300, request
    expect(page.get_by_text("Said once, though it was sent twice.")).to_have_count(1)


def test_session_that_has_ended_is_not_refreshed(page: Page) -> None:
    """Only a token past its time is renewed; any other refusal means signing in again."""
    sign_in(page)
    other = page.context.new_page()
    other.goto("/desk")
    expect(other.get_by_role("button", name="Account", exact=True)).to_be_visible()
    held = page.context.cookies()
    other.request.post("/api/auth/signout", headers={"Origin": urlsplit(page.url)._replace(path="").geturl()})
    page.context.add_cookies(held)
    answers = watch(page)
    page.get_by_role("link", name="Exports").first.click()
    expect(page).to_have_url(re.compile(r"/signin\?next=/exports"))
    assert REFRESH not in answers
