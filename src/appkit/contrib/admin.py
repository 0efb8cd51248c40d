"""Pages to look at and change the rows of an app's tables, for superusers, and for whom a role lets in.

Turn it on with `AppKit(plugins=[admin])`, and install `fastapi-appkit[admin]`. The pages are starlette-admin's, under
`/admin` beside the app's other routes.
"""

import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from hashlib import sha256
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
from appkit.exceptions import AppKitError, ForbiddenException, UnauthorizedException

try:
    from jinja2 import Environment, PackageLoader
    from starlette_admin import BaseField, DateTimeField, EnumField
    from starlette_admin.contrib.sqla import Admin, ModelView
    from starlette_admin.contrib.sqla.converters import ModelConverter
    from starlette_admin.converters import converts
    from starlette_admin.helpers import run_on_commit_callbacks
except ImportError as exc:
    raise AppKitError(
        "The plugin admin needs starlette-admin, which is not installed. "
        "Install it: pip install 'fastapi-appkit[admin]'."
    ) from exc

PERMISSION: Final = "admin:enter"
"""What a role of the plugin `roles` must have among its permissions, for people who are no superusers."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_KEPT: Final = ("id", "created_at", "updated_at")
_PERSON: Final = ("id", "email", "is_active", "is_superuser", "email_verified_at", "last_signin_at", "created_at")
_HANDLERS: Final = ("applyColumnVisibility()", "window.location = this.value")  # In attributes, where no nonce counts.

_nonce: ContextVar[str] = ContextVar("appkit_admin_nonce", default="")

_RENEW: Final = """<!doctype html><title>Admin</title><p id="said">One moment.</p><script nonce="{nonce}">
fetch("{prefix}/auth/refresh", {{method: "POST"}}).then(answer => {{
  if (answer.ok) location.reload();
  else document.getElementById("said").textContent = "Sign in as somebody who may come here, and load this page again.";
}});
</script>"""


class MomentField(DateTimeField):
    """A moment, typed in the time zone of whoever types it."""

    async def parse_form_data(self, *args: Any, **kwargs: Any) -> datetime | None:
        """It as it was typed, in UTC and aware of it."""
        moment = await super().parse_form_data(*args, **kwargs)
        return moment and moment.replace(tzinfo=UTC)


class Converter(ModelConverter):
    """Which field a column has."""

    @converts("DateTime")
    def conv_datetime(self, *args: Any, **kwargs: Any) -> BaseField:
        """Every moment is aware of its time zone here."""
        return MomentField(**self._field_common(*args, **kwargs))

    @converts("Enum")
    def conv_enum(self, *args: Any, **kwargs: Any) -> BaseField:
        """A `Literal` is a choice too, without an enum behind it."""
        if kwargs["type"].enum_class is not None:
            return super().conv_enum(*args, **kwargs)
        return EnumField(**self._field_common(*args, **kwargs), choices=[(name, name) for name in kwargs["type"].enums])


class RowView(ModelView):
    """The pages of a table. Subclass it, and name the subclass as the model's `admin_view`, for other ones.

    class Post(BaseTableModel):
        admin_view = PostView  # None for no pages
    """

    exclude_fields_from_create = _KEPT
    exclude_fields_from_edit = _KEPT

    def __init__(self, model: type[BaseTableModel], **more: Any) -> None:
        if not self.fields:
            self.fields = _readable(model)  # type: ignore[assignment] # Names will do, as it says itself.
        super().__init__(model, **{"converter": Converter(), **more})

    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        """The row with this id; None, which is a 404, when there is none or it is no id."""
        try:
            return await super().find_by_pk(request, pk)
        except ValueError:
            return None


class PersonView(RowView):
    """The users, to look at: `/users` and `appkit users` are for changes, which end sessions and tell auditors."""

    fields = [*_PERSON]  # type: ignore[list-item] # noqa: RUF012 - names will do, and nobody adds to them

    def can_create(self, request: Request) -> bool:  # noqa: ARG002 - asked for
        """Nobody."""
        return False

    can_edit = can_delete = can_import = can_create


class AdminPages:
    """The pages of one app."""

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
        """Serve a page, whose scripts are its own and no others."""
        nonce = secrets.token_urlsafe(16)
        _nonce.set(nonce)

        async def add_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = _policy(nonce)
            await send(message)

        await self._shell(scope, receive, add_policy)


class _SessionMiddleware(BaseHTTPMiddleware):
    """Gives each page a session of the app's, committed before the answer is sent, or rolled back with an error."""

    def __init__(self, app: ASGIApp, database: Database) -> None:
        super().__init__(app)
        self._database = database

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        async with self._database.session(reader=request.method in _SAFE) as session:
            request.state.session = session
            response = await call_next(request)
            if response.status_code >= 400:  # noqa: PLR2004 - the first of the errors
                await session.rollback()
        await run_on_commit_callbacks(request)
        return response


class _Templates(PackageLoader):
    """starlette-admin's templates, with a nonce in each script, and without the font of another site."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool] | None]:
        source, name, is_fresh = super().get_source(environment, template)
        source = source.replace("<script", '<script nonce="{{ csp_nonce() }}"')
        return source.replace("@import url('https://rsms.me/inter/inter.css');", ""), name, is_fresh


class _Forward(Response):
    """An answer that the admin gives."""

    def __init__(self, prefix: str, pages: AdminPages) -> None:
        super().__init__()
        self._prefix = prefix
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers")
        inner = {name: scope[name] for name in (*kept, "client", "server", "extensions") if name in scope}
        await self._pages({**inner, "root_path": scope.get("root_path", "") + self._prefix}, receive, send)


async def get_admin(user: CurrentUser, request: Request) -> BaseUser:
    """The person who asks, who may see the pages.

    Raises:
        ForbiddenException: When they are no superuser, and no role of theirs has the permission.
    """
    app = app_of(request)
    if user.is_superuser or await _has_permission(app, user):
        return user
    raise ForbiddenException


async def _has_permission(app: AppContext, user: BaseUser) -> bool:
    if "appkit.contrib.roles" not in app.plugins.names():
        return False
    from appkit.contrib.roles.service import RoleService  # Whoever imports it has its tables.

    async with app.database.read_session(primary=True) as db:
        return await RoleService(db).allows(user, PERMISSION)


router = APIRouter(include_in_schema=False)


@router.api_route("/admin/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def serve_admin(_: Annotated[BaseUser, Depends(get_admin)], request: Request) -> Response:
    """A page, or what its scripts ask for."""
    app = app_of(request)
    if AdminPages not in app.resources:
        app.resources[AdminPages] = AdminPages(app)
    return _Forward(app.settings.api_prefix, app.resources[AdminPages])


@hookimpl
def register_routers() -> list[APIRouter]:
    """`/admin`."""
    return [router]


@hookimpl
def render_exception(exception: Exception, request: Request) -> Response | None:
    """Renew the access of somebody whose page outlived it, as a frontend does by itself."""
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
    """The app's tables, by name: none of appkit's and its plugins', but for the users."""
    mappers: list[Mapper[Any]] = sorted(BaseTableModel.registry.mappers, key=lambda mapper: mapper.class_.__name__)
    for model in (mapper.class_ for mapper in mappers):
        if model is user or not (issubclass(model, BaseUser) or model.__module__.startswith("appkit.")):
            yield model


def _readable(model: type[BaseTableModel]) -> list[str]:
    """The names of a table's columns, but for those that are encrypted, which are nobody's to read."""
    mapper: Mapper[Any] = inspect(model)
    return [each.key for each in mapper.column_attrs if not isinstance(each.columns[0].type, EncryptedString)]
