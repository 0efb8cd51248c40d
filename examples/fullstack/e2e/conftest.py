"""Fixtures for browser tests: the served app, a mail server, and Debian's Chromium."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from queue import Queue
from typing import Any

import demo
import pytest
from aiosmtpd.controller import Controller
from deployments import deployment, worker
from playwright.sync_api import BrowserContext, Page

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
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PATIENCE = 60.0  # Timeout in seconds, generous for busy machines.


class Mailbox:
    """A mail server that stores what it receives."""

    def __init__(self) -> None:
        self._arrived: Queue[EmailMessage] = Queue()

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Store a mail."""
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self._arrived.put(message)
        return "250 OK"

    def link(self, to: str, page: str) -> str:
        """Wait for the next mail to this address, and return its link to this page."""
        while True:
            message = self._arrived.get(timeout=PATIENCE)
            body = message.get_body(("plain",))
            found = re.search(rf"\S+/{page}#token=\S+", body.get_content() if body else "")
            if message["To"] == to and found:
                return found.group()


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Launch Debian's Chromium without external requests."""
    if not CHROMIUM.exists():
        reason = f"There is no browser at {CHROMIUM}: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return {**browser_type_launch_args, "executable_path": str(CHROMIUM), "args": QUIET}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    """Disable animations, so that pages are stable."""
    return {**browser_context_args, "reduced_motion": "reduce", "locale": "en-GB"}


@pytest.fixture(scope="session")
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    """A mail server, and its port."""
    box, port = Mailbox(), demo.free_port()
    server = Controller(box, hostname="127.0.0.1", port=port, ready_timeout=PATIENCE)
    server.start()
    yield box, port
    server.stop()


@pytest.fixture
def mails(mailbox: tuple[Mailbox, int]) -> Mailbox:
    """The mails that the app sent."""
    return mailbox[0]


@pytest.fixture(scope="session")
def built() -> None:
    """The frontend, built for production."""
    if not demo.build_frontend():
        pytest.fail("There is no npm on this machine, so there are no pages to test.")


@pytest.fixture(scope="session", params=["sqlite"])
def base_url(request: pytest.FixtureRequest, built: None, mailbox: tuple[Mailbox, int]) -> Iterator[str]:
    """The URL of an app with demo data. A test may choose another deployment."""
    with ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory(prefix="desk-"))
        port = demo.free_port()
        environment = {
            **demo.environment_for(Path(data), port),
            **stack.enter_context(deployment(request.param)),
            "LIMITS_ENABLED": "false",  # All test users share one client address.
            "MAIL_URL": f"smtp://127.0.0.1:{mailbox[1]}",
        }
        demo.run_main("upgrade-database", environment)
        demo.run_main("seed", environment)
        if "TASKS_BROKER_URL" in environment:
            stack.enter_context(worker(environment))
        yield stack.enter_context(demo.serve(port, environment))[1]


@pytest.fixture(autouse=True)
def _well_behaved(context: BrowserContext, base_url: str) -> Iterator[None]:
    """Fail if a page logs an error, has an unhandled exception or sends a request to another host.

    A refused request is no error of the page; what the Content-Security-Policy stops is.
    """
    complaints: list[str] = []
    context.set_default_timeout(PATIENCE * 1000)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    context.on(
        "request",
        lambda request: None if request.url.startswith((base_url, "blob:")) else complaints.append(request.url),
    )
    yield
    assert [text for text in complaints if "Failed to load resource" not in text] == []


@pytest.fixture
def check_accessibility(page: Page) -> Callable[[], None]:
    """A function that checks the current page against WCAG 2.2 AA, as far as axe can."""

    def check() -> None:
        page.evaluate(AXE.read_text(encoding="utf-8"))
        result = page.evaluate("tags => axe.run(document, {runOnly: tags, resultTypes: ['violations']})", WCAG)
        found = [(each["id"], [node["target"] for node in each["nodes"]]) for each in result["violations"]]
        assert found == [], page.url

    return check
