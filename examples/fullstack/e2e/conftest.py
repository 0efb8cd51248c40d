"""The whole desk, served as the demo serves it, and Debian's Chromium to use it with."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import demo
import pytest
from playwright.sync_api import Page

CHROMIUM = Path("/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = demo.FRONTEND / "node_modules" / "axe-core" / "axe.min.js"
WCAG = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Debian's browser, which asks nobody outside for anything."""
    if not CHROMIUM.exists():
        reason = f"There is no browser at {CHROMIUM}: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return {**browser_type_launch_args, "executable_path": str(CHROMIUM), "args": QUIET}


@pytest.fixture(scope="session")
def base_url() -> Iterator[str]:
    """The address of a desk with something in it, whose access tokens are short-lived."""
    if not demo.build_frontend():
        pytest.fail("There is no npm on this machine, so there are no pages to test.")
    with tempfile.TemporaryDirectory(prefix="desk-") as data:
        port = demo.free_port()
        environment = {**demo.environment_for(Path(data), port), "AUTH_ACCESS_TTL": "1"}
        demo.run_main("upgrade-database", environment)
        demo.run_main("seed", environment)
        with demo.serve(port, environment) as (_, address):
            yield address


@pytest.fixture(autouse=True)
def _well_behaved(page: Page, base_url: str) -> Iterator[None]:
    """No page logs an error, leaves an exception unhandled or asks another host for anything.

    A refused request is no error of the page; what the Content-Security-Policy stops is.
    """
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on(
        "request",
        lambda request: None if request.url.startswith((base_url, "blob:")) else complaints.append(request.url),
    )
    yield
    assert [text for text in complaints if "Failed to load resource" not in text] == []


@pytest.fixture
def check_accessibility(page: Page) -> Callable[[], None]:
    """Check that the page, as it is now, keeps WCAG 2.2 AA as far as a program can tell."""

    def check() -> None:
        page.wait_for_timeout(400)  # Colours fade, and are judged once they have settled.
        page.evaluate(AXE.read_text(encoding="utf-8"))
        result = page.evaluate("tags => axe.run(document, {runOnly: tags})", WCAG)
        found = [(each["id"], [node["target"] for node in each["nodes"]]) for each in result["violations"]]
        assert found == [], page.url

    return check
