"""Serves a built frontend (`FRONTEND_DIST`) from the API's own origin: this needs no CORS and no second server."""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_ENCODINGS: Final = {"br": ".br", "gzip": ".gz"}  # Best compression first.


def install_frontend(app: FastAPI, directory: Path) -> None:
    """Serve the files of a build for every path without a route; routes added later take precedence too.

    Raises:
        RuntimeError: When the directory has no `index.html`.
    """
    app.router.default = BuiltFrontend(directory)


class BuiltFrontend(StaticFiles):
    """Serves the files of a build, and the build's index page for every other path that a browser opens as a page.

    Files in `assets` have a content hash in their names, as Vite writes them. They are cached for a year, and a missing
    one is a 404. Browsers revalidate all other files (see `SecurityHeadersMiddleware`). If a file has a compressed
    `.br` or `.gz` copy beside it, browsers that accept the encoding get the copy.

    Raises:
        RuntimeError: When the directory has no `index.html`.
    """

    def __init__(self, directory: Path) -> None:
        if not (directory / "index.html").is_file():
            raise RuntimeError(
                f"{directory / 'index.html'} does not exist. Build the frontend, or unset FRONTEND_DIST."
            )
        super().__init__(directory=directory)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, the index page, or 304 for a cached copy."""
        path = "index.html" if path == "." else path
        try:
            return await self._get_file(path, scope)
        except HTTPException as exc:
            is_page = _opens_page(scope) and not path.startswith(("assets/", ".."))
            if exc.status_code != HTTPStatus.NOT_FOUND or not is_page:
                raise
        return await self._get_file("index.html", scope)

    async def _get_file(self, path: str, scope: Scope) -> Response:
        response = await self._get_compressed(path, scope) or await super().get_response(path, scope)
        response.headers["Vary"] = "Accept-Encoding"
        if path.startswith("assets/"):
            response.headers["Cache-Control"] = _IMMUTABLE
        return response

    async def _get_compressed(self, path: str, scope: Scope) -> Response | None:
        for encoding in _accepted_encodings(scope):
            try:
                response = await super().get_response(path + _ENCODINGS[encoding], scope)
            except HTTPException:
                continue
            response.headers["Content-Encoding"] = encoding
            return response
        return None


def _accepted_encodings(scope: Scope) -> Iterator[str]:
    accepted = _split(Headers(scope=scope).get("accept-encoding", ""))
    return (encoding for encoding in _ENCODINGS if encoding in accepted)


def _opens_page(scope: Scope) -> bool:
    """Whether a browser opens this URL as a page, rather than loading a part of a page."""
    return "text/html" in _split(Headers(scope=scope).get("accept", ""))


def _split(header: str) -> set[str]:
    """The names in a header such as `br, gzip;q=0.5`, without those of weight 0."""
    choices = (choice.replace(" ", "").lower().partition(";") for choice in header.split(","))
    return {name for name, _, weight in choices if weight not in {"q=0", "q=0.0"}}
