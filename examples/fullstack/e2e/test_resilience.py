"""Network outages, deploys while a page is open, and concurrent edits."""

import re

from people import call, enter, join
from playwright.sync_api import BrowserContext, Page, expect

CHUNK = re.compile(r"/assets/ExportsView-.*\.js")


def test_text_is_saved_when_the_network_is_back(context: BrowserContext, page: Page, base_url: str) -> None:
    join(context, base_url, "offline@example.com")
    post = call(context, base_url, "/posts", {"title": "A train", "content": "Before the tunnel."})
    page.goto(f"/posts/{post['id']}/edit")
    content = page.get_by_label("Content, in Markdown")
    expect(content).to_have_value("Before the tunnel.")
    context.set_offline(True)
    expect(page.get_by_text("There is no network.")).to_be_visible()
    content.fill("In the tunnel.")
    expect(page.get_by_text("Not saved: the server can’t be reached")).to_be_visible()
    context.set_offline(False)
    expect(page.get_by_text("There is no network.")).to_have_count(0)
    expect(page.get_by_text("Saved at")).to_be_visible()
    assert context.request.get(f"{base_url}/api/posts/{post['id']}").json()["content"] == "In the tunnel."


def test_list_loads_automatically_when_the_network_is_back(context: BrowserContext, page: Page, base_url: str) -> None:
    enter(context, base_url)
    page.goto("/desk")
    expect(page.get_by_role("row")).not_to_have_count(0)
    context.set_offline(True)
    page.get_by_role("button", name="Drafts").click()
    expect(page.get_by_text("This didn’t load")).to_be_visible()
    context.set_offline(False)
    expect(page.get_by_role("row").filter(has_text="Walking the old railway")).to_be_visible()


def test_page_reloads_after_a_deploy(context: BrowserContext, page: Page, base_url: str) -> None:
    enter(context, base_url)
    page.goto("/desk")
    expect(page.get_by_role("heading", level=1, name="Your desk")).to_be_visible()
    asked: list[str] = []  # Requests for pages, not for their assets.
    page.on("request", lambda request: asked.append(request.url) if request.resource_type == "document" else None)
    page.route(CHUNK, lambda route: route.continue_() if asked else route.fulfill(status=404))
    page.get_by_role("link", name="Exports").first.click()
    expect(page.get_by_role("heading", level=1, name="Exports")).to_be_visible()
    assert asked == [f"{base_url}/exports"]


def test_missing_chunk_shows_an_error(context: BrowserContext, page: Page, base_url: str) -> None:
    enter(context, base_url)
    page.goto("/desk")
    page.route(CHUNK, lambda route: route.fulfill(status=404))
    page.get_by_role("link", name="Exports").first.click()
    expect(page.get_by_role("heading", name="This page didn’t open")).to_be_visible()


def test_concurrent_edit_lets_the_user_choose(context: BrowserContext, page: Page, base_url: str) -> None:
    join(context, base_url, "windows@example.com")
    post = call(context, base_url, "/posts", {"title": "Two windows", "content": "As it was."})
    quick = context.new_page()
    for window in (page, quick):
        window.goto(f"/posts/{post['id']}/edit")
        expect(window.get_by_label("Title", exact=True)).to_have_value("Two windows")
    quick.get_by_label("Content, in Markdown").fill("From the quick one.")
    expect(quick.get_by_text("Saved at")).to_be_visible()
    page.get_by_label("Content, in Markdown").fill("From the slow one.")
    expect(page.get_by_role("alert").filter(has_text="This post has changed elsewhere")).to_be_visible()
    page.get_by_text("Show the other version").click()
    expect(page.get_by_text("From the quick one.")).to_be_visible()
    page.get_by_role("button", name="Keep mine").click()
    expect(page.get_by_text("Saved at")).to_be_visible()
    saved = context.request.get(f"{base_url}/api/posts/{post['id']}").json()
    assert saved["content"] == "From the slow one."
