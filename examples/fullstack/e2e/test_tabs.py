"""Two tabs of one browser whose access token expires."""

import re
from collections import defaultdict
from urllib.parse import urlsplit

from people import account, expire, sign_in, wait_until
from playwright.sync_api import Page, Response, Route, expect

EXPORTS = "GET /api/exports"
REFRESH = "POST /api/auth/refresh"


def watch(page: Page) -> dict[str, list[int]]:
    """Record the responses to all tabs, in order."""
    answers: dict[str, list[int]] = defaultdict(list)

    def note(response: Response) -> None:
        path = urlsplit(response.url).path
        if path.startswith("/api/"):
            answers[f"{response.request.method} {path}"].append(response.status)

    page.context.on("response", note)
    return answers


def refused(answers: dict[str, list[int]]) -> dict[str, list[int]]:
    """The requests that were refused because the token had expired."""
    return {request: statuses for request, statuses in answers.items() if 401 in statuses}


def test_tabs_refresh_once_and_retry_each_request_once(page: Page) -> None:
    sign_in(page)
    page.get_by_role("link", name="Front page").click()
    page.get_by_role("main").get_by_role("article").first.get_by_role("link").first.click()
    page.get_by_label("Add a comment").fill("Said once, though it was sent twice.")
    comment = f"POST /api{urlsplit(page.url).path}/comments"
    other = page.context.new_page()
    other.goto("/desk")
    expect(other.get_by_role("heading", level=1, name="Your desk")).to_be_visible()
    other.wait_for_load_state("networkidle")
    expire(page.context)
    answers = watch(page)

    def hold(route: Route) -> None:
        """Delay the refresh, so that every request finds an expired token."""
        wait_until(page, lambda: {comment, EXPORTS} <= refused(answers).keys())
        route.continue_()

    page.context.route("**/api/auth/refresh", hold)
    page.get_by_role("button", name="Comment", exact=True).click(no_wait_after=True)
    other.get_by_role("link", name="Exports").first.click(no_wait_after=True)

    expect(page.get_by_role("region", name="Comments")).to_contain_text("Said once")
    expect(other.get_by_role("heading", level=1, name="Exports")).to_be_visible()
    wait_until(page, lambda: REFRESH in answers and all(len(sent) > 1 for sent in refused(answers).values()))
    page.context.unroute_all(behavior="wait")
    assert answers[REFRESH] == [200]
    for request, statuses in refused(answers).items():
        assert statuses[0] == 401, request
        assert statuses.count(401) == 1, request
        assert len(statuses) == 2, request
        assert statuses[1] < 300, request
    expect(page.get_by_text("Said once, though it was sent twice.")).to_have_count(1)


def test_ended_session_is_not_refreshed(page: Page) -> None:
    """Only an expired token is refreshed; any other 401 requires signing in again."""
    sign_in(page)
    other = page.context.new_page()
    other.goto("/desk")
    account(other)
    held = page.context.cookies()
    other.request.post("/api/auth/signout", headers={"Origin": urlsplit(page.url)._replace(path="").geturl()})
    page.context.add_cookies(held)
    answers = watch(page)
    page.get_by_role("link", name="Exports").first.click()
    expect(page).to_have_url(re.compile(r"/signin\?next=/exports"))
    assert REFRESH not in answers
