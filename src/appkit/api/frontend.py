"""A built frontend, served from the API's own origin: no CORS, no second server, cookies that stay at home."""

from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

_FOR_EVER: Final = "public, max-age=31536000, immutable"


def install_frontend(app: FastAPI, directory: Path) -> None:
    """Serve the files of a build, and its index page for every other path that a browser opens.

    Those in `assets` have their content's hash in their names, as Vite gives them: they are kept for a year, and
    a missing one is a 404. All others are asked about each time (see `SecurityHeadersMiddleware`).

    Raises:
        RuntimeError: When there is no build in the directory.
    """
    if (assets := directory / "assets").is_dir():
        app.mount("/assets", KeptFiles(cache_control=_FOR_EVER, directory=assets), name="assets")
    app.frontend("/", directory=directory, fallback="index.html", check_dir=True)


class KeptFiles(StaticFiles):
    """Files, and how long caches keep them."""

    def __init__(self, *, cache_control: str, **options: Any) -> None:
        super().__init__(**options)
        self._cache_control = cache_control

    def file_response(self, *args: Any, **options: Any) -> Response:
        """The file, or 304 to those who have it."""
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = self._cache_control
        return response
