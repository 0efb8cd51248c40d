"""First steps of a new user, with the published wheel only."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from .conftest import console

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
ACCOUNT = {"email": "ada@example.com", "password": "correct horse battery"}


def test_readme_app_runs_from_the_wheel(stranger):
    stranger.run("pip install -q fastapi-appkit")
    shutil.copy(ROOT / "docs" / "snippets" / "bookmarks.py", stranger.folder)
    with stranger.serve("appkit dev bookmarks.py") as browser:
        assert browser.post("/api/auth/signup", json=ACCOUNT).status_code == 201
        assert browser.post("/api/bookmarks", json={"url": "https://example.com"}).status_code == 201
        again = browser.post("/api/bookmarks", json={"url": "https://example.com"})
        assert (again.status_code, again.json()["internal_code"]) == (409, 40901)
        assert again.headers["content-type"] == "application/problem+json"
    code = "import sqlite3; print(sqlite3.connect('app.db').execute('SELECT title FROM bookmark').fetchall())"
    for _ in range(20):
        if "fetched" in stranger.run(f'python -c "{code}"'):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("The title was not fetched.")


def test_new_app_works_as_its_readme_says(stranger):
    stranger.run("pip install -q fastapi-appkit")
    stranger.run("appkit new shop")
    shop = stranger.folder / "shop"
    serve, test, add, *_ = console(shop / "README.md")
    with stranger.serve(serve, shop) as browser:
        assert browser.post("/api/auth/signup", json=ACCOUNT).status_code == 201
    assert re.search(r"\d+ passed", stranger.run(test, shop))

    stranger.run(add, shop)
    assert re.search(r"\d+ passed", stranger.run("pytest", shop))
    for check in ("ruff check", "ruff format --check", "mypy", "PYTHONPATH=backend lint-imports", "appkit db check"):
        stranger.run(check, shop)
    assert "No problems found" in stranger.run("appkit check", shop)
    findings = json.loads(stranger.run("appkit check --deploy --json || true", shop))
    variables = {finding["where"].split()[0] for finding in findings}
    assert variables == {"AUTH_SECRET_KEYS", "FRONTEND_URL", "MAIL_URL"}


def test_new_plugin_passes_its_own_tests_beside_an_app(stranger):
    stranger.run("pip install -q fastapi-appkit")
    stranger.run("appkit new page-count --plugin")
    plugin = stranger.folder / "page-count"
    *_, test = console(plugin / "README.md")
    assert re.search(r"\d+ passed", stranger.run(test, plugin))
    for check in ("ruff check", "ruff format --check", "mypy"):
        stranger.run(check, plugin)


@pytest.mark.skipif(shutil.which("npm") is None, reason="There is no npm on this machine.")
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"There is no browser at {CHROMIUM}.")
def test_new_app_has_pages_to_sign_up_on(stranger):
    from playwright.sync_api import expect, sync_playwright

    stranger.run("pip install -q fastapi-appkit")
    stranger.run("appkit new shop --frontend vue")
    shop = stranger.folder / "shop"
    stranger.run("pip install -q -e .", shop)
    stranger.run("npm install --no-audit --no-fund && npm run build", shop / "frontend")
    with stranger.serve("appkit dev", shop) as browser, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(base_url=str(browser.base_url))
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto("/")
        page.get_by_role("link", name="I have no account yet").click()
        page.get_by_label("E-mail address").fill(ACCOUNT["email"])
        page.get_by_label("Password").fill("short")
        page.get_by_role("button", name="Sign up").click()
        expect(page.locator("small", has_text="at least 8 characters")).to_be_visible()
        page.get_by_label("Password").fill(ACCOUNT["password"])
        page.get_by_role("button", name="Sign up").click()
        expect(page.get_by_text(f"You are signed in as {ACCOUNT['email']}.")).to_be_visible()
        page.reload()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert problems == []
        chromium.close()
