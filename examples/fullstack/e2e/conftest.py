"""The whole desk, served as the demo serves it, and Debian's Chromium to use it with."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import demo
import pytest
from playwright.sync_api import Page


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Debian's browser, which asks nobody outside for anything."""
    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    return {**browser_type_launch_args, "executable_path": "/usr/bin/chromium", "args": quiet}


@pytest.fixture(scope="session")
def base_url() -> Iterator[str]:
    """The address of a desk with something in it."""
    if not demo.build_frontend():
        pytest.fail("There is no npm on this machine, so there are no pages to test.")
    with tempfile.TemporaryDirectory(prefix="desk-") as data:
        port = demo.free_port()
        environment = demo.environment_for(Path(data), port)
        demo.run_main("upgrade-database", environment)
        demo.run_main("seed", environment)
        with demo.serve(port, environment) as (_, address):
            yield address


@pytest.fixture(autouse=True)
def _quiet_pages(page: Page) -> Iterator[None]:
    """No page logs an error or leaves an exception unhandled; a refused request is no error of the page."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield
    assert [text for text in complaints if "Failed to load resource" not in text] == []
