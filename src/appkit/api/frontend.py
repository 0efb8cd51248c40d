"""Serves a built frontend (`FRONTEND_DIST`) from the origin of the API, without CORS or a second server."""

from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_ENCODINGS: Final = {"br": ".br", "gzip": ".gz"}  # Best compression first.


class BuiltFrontend(StaticFiles):
    """Serves the files of a build, and its index page for every other path that a browser opens as a page.

    Browsers cache files in `assets` for a year, because Vite puts a hash of the content into their names. A missing
    file in `assets` is a 404. If a file has a compressed copy with the suffix `.br` or `.gz`, browsers get the copy.
    """

    def __init__(self, directory: Path) -> None:
        if not (directory / "index.html").is_file():
            raise RuntimeError(f"{directory}/index.html does not exist. Build the frontend, or unset FRONTEND_DIST.")
        super().__init__(directory=directory)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, the index page, or 304 for a cached copy."""
        path = "index.html" if path == "." else path
        try:
            return await self._get_file(path, scope)
        except HTTPException as exc:
            is_page = "text/html" in _accepted(scope, "accept") and not path.startswith(("assets/", ".."))
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
        accepted = _accepted(scope, "accept-encoding")
        for encoding in (each for each in _ENCODINGS if each in accepted):
            try:
                response = await super().get_response(path + _ENCODINGS[encoding], scope)
            except HTTPException:
                continue
            response.headers["Content-Encoding"] = encoding
            return response
        return None


def _accepted(scope: Scope, name: str) -> set[str]:
    """The values in a header such as `br, gzip;q=0.5`, except values with the weight 0."""
    header = Headers(scope=scope).get(name, "")
    choices = (choice.replace(" ", "").lower().partition(";") for choice in header.split(","))
    return {value for value, _, weight in choices if weight not in {"q=0", "q=0.0"}}
