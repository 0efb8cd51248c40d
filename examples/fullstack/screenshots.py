"""Take the documentation's screenshots of the running example: `nox -s screenshots`."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import demo
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 800}
SCHEMES = ("light", "dark")
PAGES = {"front-page": "/", "desk": "/desk", "devices": "/settings/sessions", "security": "/settings/security"}


def main() -> None:
    """Serve the example with demo data, and take a screenshot of each page in both themes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    demo.build_frontend()
    with desk() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for scheme in SCHEMES:
            with signed_in(browser, address, scheme, DESK) as page:
                for name, path in PAGES.items():
                    page.goto(path)
                    keep(page, directory / f"{name}-{scheme}.png")
                edit(page, directory / f"editor-{scheme}.png")
            with signed_in(browser, address, scheme, DESK, "mara") as page:
                export(page, address, directory / f"export-{scheme}.png")
            with signed_in(browser, address, scheme, PHONE) as page:
                page.goto("/desk")
                keep(page, directory / f"phone-{scheme}.png")
        browser.close()


@contextmanager
def desk() -> Iterator[str]:
    """Serve the example until the block ends, and yield its URL."""
    with tempfile.TemporaryDirectory(prefix="desk-") as data:
        port = demo.free_port()
        environment = demo.environment_for(Path(data), port)
        demo.run_main("upgrade-database", environment)
        demo.run_main("seed", environment)
        with demo.serve(port, environment) as (_, address):
            yield address


@contextmanager
def signed_in(browser: Browser, address: str, scheme: Any, size: Any, name: str = "demo") -> Iterator[Page]:
    """A browser page signed in as a demo user."""
    context = browser.new_context(
        base_url=address, viewport=size, color_scheme=scheme, reduced_motion="reduce", locale="en-GB"
    )
    credentials = {"email": f"{name}@example.com", "password": "paper-and-ink"}
    context.request.post("/api/auth/signin", data=credentials, headers={"Origin": address}, fail_on_status_code=True)
    yield context.new_page()
    context.close()


def edit(page: Page, path: Path) -> None:
    """Open a post in the editor."""
    page.goto("/desk?q=bread")
    page.get_by_role("button", name="Actions for").click()
    page.get_by_role("menuitem", name="Edit").click()
    expect(page.get_by_label("Title", exact=True)).not_to_have_value("")
    keep(page, path)


def export(page: Page, address: str, path: Path) -> None:
    """Start an export that is large enough to be seen in progress."""
    for number in range(60):
        post = {"title": f"Letter {number}", "content": "Dear reader.\n\n" * 50}
        page.request.post("/api/posts", data=post, headers={"Origin": address}, fail_on_status_code=True)
    page.goto("/exports")
    page.get_by_role("button", name="Export my work").first.click()
    page.locator("[aria-valuenow]").wait_for(timeout=60_000)
    keep(page, path, still=False)


def keep(page: Page, path: Path, *, still: bool = True) -> None:
    """Save the screenshot with a reduced palette."""
    if still:
        page.wait_for_load_state("networkidle")
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    print(f"{path}  {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
