"""Admin pages to view and edit the rows of an app's tables, for superusers and roles with `admin:enter`.

Turn it on with `AppKit(plugins=[admin])`, and install `fastapi-appkit[admin]`. The pages are those of starlette-admin.
"""

import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import inspect
from sqlalchemy.orm import Mapper
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appkit import AppContext, BaseTableModel, BaseUser, CurrentUser, Database, EncryptedString, app_of, hookimpl
from appkit.contrib import required_by
from appkit.exceptions import ForbiddenException, UnauthorizedException

with required_by("admin"):
    from jinja2 import Environment, PackageLoader
    from starlette_admin import BaseField, DateTimeField, EnumField
    from starlette_admin.contrib.sqla import Admin, ModelView
    from starlette_admin.contrib.sqla.converters import ModelConverter
    from starlette_admin.converters import converts
    from starlette_admin.helpers import run_on_commit_callbacks

PERMISSION: Final = "admin:enter"
"""The permission of the plugin `roles` that opens the admin pages to users who are not superusers."""

_HANDLERS: Final = ("applyColumnVisibility()", "window.location = this.value")
"""The pages' inline event handlers. The Content-Security-Policy has their hashes: a nonce doesn't allow them."""

_nonce: ContextVar[str] = ContextVar("appkit_admin_nonce", default="")

_RENEW: Final = """<!doctype html><title>Admin</title><p id="message">Signing you in again.</p><script nonce="{nonce}">
fetch("{prefix}/auth/refresh", {{method: "POST"}}).then(answer => {{
  if (answer.ok) location.reload();
  else document.getElementById("message").textContent = "Sign in as a user who may see these pages, then reload.";
}});
</script>"""


class UTCDateTimeField(DateTimeField):
    """A date and time, entered in the browser's time zone and submitted as UTC."""

    async def parse_form_data(self, *args: Any, **kwargs: Any) -> datetime | None:
        """The entered time, UTC-aware."""
        entered = await super().parse_form_data(*args, **kwargs)
        return entered and entered.replace(tzinfo=UTC)


class Converter(ModelConverter):
    """Chooses the form field of a column."""

    @converts("DateTime")
    def conv_datetime(self, *args: Any, **kwargs: Any) -> BaseField:
        """Use a field that returns UTC-aware datetimes."""
        return UTCDateTimeField(**self._field_common(*args, **kwargs))

    @converts("Enum")
    def conv_enum(self, *args: Any, **kwargs: Any) -> BaseField:
        """Also offer the choices of a `Literal`. Its column has no enum class."""
        if kwargs["type"].enum_class is not None:
            return super().conv_enum(*args, **kwargs)
        return EnumField(**self._field_common(*args, **kwargs), choices=[(name, name) for name in kwargs["type"].enums])


class RowView(ModelView):
    """The pages of a table. To change the pages, subclass `RowView` and set the subclass as the model's `admin_view`.

    class Post(BaseTableModel):
        admin_view = PostView  # None for no pages
    """

    exclude_fields_from_create = exclude_fields_from_edit = ("id", "created_at", "updated_at")

    def __init__(self, model: type[BaseTableModel], **more: Any) -> None:
        if not self.fields:
            self.fields = _readable(model)
        super().__init__(model, **{"converter": Converter(), **more})

    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        """The row with this id, or None if there is no such row or the id is malformed. None becomes a 404."""
        try:
            return await super().find_by_pk(request, pk)
        except ValueError:
            return None


class PersonView(RowView):
    """The users, read-only. Change users with `/users` or `appkit users`, which also end sessions and emit events."""

    # starlette-admin accepts names, but its type annotation doesn't.
    fields: Any = ("id", "email", "is_active", "is_superuser", "email_verified_at", "last_signin_at", "created_at")

    def can_create(self, request: Request) -> bool:  # noqa: ARG002 - starlette-admin's signature
        """False, because this view is read-only."""
        return False

    can_edit = can_delete = can_import = can_create


class AdminPages:
    """The admin pages of one app."""

    def __init__(self, app: AppContext) -> None:
        admin = Admin(
            app.database.engine,
            title=app.settings.app_name,
            secret_key=app.derive_key("admin").hex(),
            additional_loaders=[_Templates("starlette_admin", "templates")],
        )
        admin.middlewares[0] = Middleware(_SessionMiddleware, database=app.database)
        admin.templates.env.globals["csp_nonce"] = _nonce.get
        for model in _models(app.user_model):
            view = getattr(model, "admin_view", PersonView if issubclass(model, BaseUser) else RowView)
            if view is not None:
                admin.add_view(view(model))
        self._shell = Starlette()
        admin.mount_to(self._shell)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a page, with a Content-Security-Policy that allows only the page's own scripts."""
        nonce = secrets.token_urlsafe(16)
        _nonce.set(nonce)

        async def add_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = _policy(nonce)
            await send(message)

        await self._shell(scope, receive, add_policy)


class _SessionMiddleware(BaseHTTPMiddleware):
    """A database session for each request. It is committed before the response is sent, or rolled back on an error."""

    def __init__(self, app: ASGIApp, database: Database) -> None:
        super().__init__(app)
        self._database = database

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        async with self._database.session(reader=request.method in {"GET", "HEAD", "OPTIONS"}) as session:
            request.state.session = session
            response = await call_next(request)
            if response.status_code >= HTTPStatus.BAD_REQUEST:
                await session.rollback()
        await run_on_commit_callbacks(request)
        return response


class _Templates(PackageLoader):
    """starlette-admin's templates, with a nonce on each script and without the third-party font."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool] | None]:
        source, name, is_fresh = super().get_source(environment, template)
        source = source.replace("<script", '<script nonce="{{ csp_nonce() }}"')
        return source.replace("@import url('https://rsms.me/inter/inter.css');", ""), name, is_fresh


class _Forward(Response):
    """A response from the admin pages."""

    def __init__(self, prefix: str, pages: AdminPages) -> None:
        super().__init__()
        self._prefix = prefix
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        keys = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers")
        inner = {name: scope[name] for name in (*keys, "client", "server", "extensions") if name in scope}
        await self._pages({**inner, "root_path": scope.get("root_path", "") + self._prefix}, receive, send)


async def get_admin(user: CurrentUser, request: Request) -> BaseUser:
    """The signed-in user, if they may use the pages.

    Raises:
        ForbiddenException: When they are not a superuser, and none of their roles has the permission.
    """
    if user.is_superuser:
        return user
    app = app_of(request)
    if "appkit.contrib.roles" in app.plugins.names():
        from appkit.contrib.roles.service import RoleService  # Here, because the import adds the tables of roles.

        async with app.database.read_session(primary=True) as db:
            if await RoleService(db).allows(user, PERMISSION):
                return user
    raise ForbiddenException


router = APIRouter(include_in_schema=False)


@router.api_route("/admin/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def serve_admin(_: Annotated[BaseUser, Depends(get_admin)], request: Request) -> Response:
    """Serve a page, a static file, or the data that a script requests."""
    app = app_of(request)
    if AdminPages not in app.resources:
        app.resources[AdminPages] = AdminPages(app)
    return _Forward(app.settings.api_prefix, app.resources[AdminPages])


@hookimpl
def register_routers() -> list[APIRouter]:
    """Serve `/admin`."""
    return [router]


@hookimpl
def render_exception(exception: Exception, request: Request) -> Response | None:
    """If the access token is missing or expired, answer with a page that refreshes it, as a frontend would do."""
    prefix = app_of(request).settings.api_prefix
    asks = request.method == "GET" and request.url.path.startswith(f"{prefix}/admin/")
    if not asks or not isinstance(exception, UnauthorizedException):
        return None
    nonce = secrets.token_urlsafe(16)
    page = _RENEW.format(nonce=nonce, prefix=request.scope.get("root_path", "") + prefix)
    return HTMLResponse(page, exception.status_code, {"Content-Security-Policy": _policy(nonce)})


def _policy(nonce: str) -> str:
    hashes = " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in _HANDLERS)
    return (
        f"default-src 'self'; script-src 'self' 'nonce-{nonce}' 'unsafe-hashes' {hashes}; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def _models(user: type[BaseUser]) -> Iterator[type[BaseTableModel]]:
    """The app's models and the user model, ordered by name. Other models of appkit and its plugins are left out."""
    mappers: list[Mapper[Any]] = sorted(BaseTableModel.registry.mappers, key=lambda mapper: mapper.class_.__name__)
    for model in (mapper.class_ for mapper in mappers):
        if model is user or not (issubclass(model, BaseUser) or model.__module__.startswith("appkit.")):
            yield model


def _readable(model: type[BaseTableModel]) -> list[Any]:
    """The names of a model's columns, without the encrypted ones."""
    mapper: Mapper[Any] = inspect(model)
    return [each.key for each in mapper.column_attrs if not isinstance(each.columns[0].type, EncryptedString)]
