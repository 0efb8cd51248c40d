"""The API docs page (`/api/docs`): Swagger UI from installed files, for use offline and with a strict CSP."""

from html import escape
from typing import Any, Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from appkit.api.middleware import PAGE_POLICY

# The URLs are relative, because a proxy may add a prefix to the path.
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="docs/assets/favicon-32x32.png">
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui" data-openapi="{openapi_url}"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

_START: Final = """SwaggerUIBundle({
  url: document.getElementById("swagger-ui").dataset.openapi,
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""


def install_docs(app: FastAPI, prefix: str) -> None:
    """Serve the docs page at `{prefix}/docs`, unless the app has no OpenAPI document."""
    if app.openapi_url is None:
        return

    async def show_docs(request: Request) -> Response:
        openapi_url = request.scope.get("root_path", "") + app.openapi_url
        page = _PAGE.format(title=escape(app.title), openapi_url=escape(openapi_url))
        return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY})

    async def start_docs(_: Request) -> Response:
        return Response(_START, media_type="text/javascript")

    app.add_route(f"{prefix}/docs", show_docs, include_in_schema=False)
    app.add_route(f"{prefix}/docs/start.js", start_docs, include_in_schema=False)
    assets = _Assets(packages=[("fastapi_swagger", "resources")])
    app.mount(f"{prefix}/docs/assets", assets, name="docs-assets")


class _Assets(StaticFiles):
    """Static files that browsers cache, but revalidate before each use."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response
