"""Every hook: what a plugin may contribute, observe or answer, when it is asked, and an example.

A plugin is a module or an object with functions marked `hookimpl`. It takes any subset of a hook's arguments, by name.
Where a hook below is an `async def`, an implementation may be one too; elsewhere it can't.
A hook that gathers takes a list, one item, or nothing from each plugin.
"""

# A specification has no body.
# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from fastapi import APIRouter
    from sqlalchemy.ext.asyncio import AsyncSession
    from starlette.middleware import Middleware
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from taskiq import AsyncBroker
    from typer import Typer

    from appkit.core.mail import Mail
    from appkit.core.settings import Settings, SettingsGroup
    from appkit.domain.events import Event
    from appkit.kit import AppKit
    from appkit.repository.context import AppContext
    from appkit.repository.user import BaseUser
    from appkit.service.principals import Device, Principal
    from appkit.tasks.router import TaskRouter

hookspec = pluggy.HookspecMarker("appkit")
"""Marks a function without a body as a hook that an app offers, with `AppKit(hooks=[…])`."""
hookimpl = pluggy.HookimplMarker("appkit")
"""Marks a function as the implementation of the hook with its name."""


class HealthCheck(NamedTuple):
    """Something that must work before this instance takes requests."""

    name: str
    check: Callable[[AppContext], Awaitable[None]]
    """Raises when it does not work; what it raises is logged, and not shown to the caller."""


class Challenge(NamedTuple):
    """What somebody who signs in has to do besides."""

    factors: Sequence[str]
    """What they may prove themselves with, as in `["totp", "recovery_code"]`; the frontend asks for one."""


class Check(NamedTuple):
    """Something that `appkit check` looks for."""

    code: str
    """Of your plugin's own, as in `BILLING001`."""
    problem: str
    """What is wrong where it finds something, in a sentence."""
    fix: str
    """What to do about it, in a sentence."""
    find: Callable[[AppKit], Iterable[str] | Awaitable[Iterable[str]]]
    """Where it is wrong: a few words for each place, and nothing where all is well."""
    deploy: bool = False
    """Whether it is only for what goes into production, with `--deploy`."""
    url: str | None = None
    """A page that says more."""


class BrokerScheme(NamedTuple):
    """What carries the news of tasks to workers, where `TASKS_BROKER_URL` starts with a scheme."""

    scheme: str
    connect: Callable[[Settings, str], AsyncBroker]
    """Makes a Taskiq broker, not yet started, for the app's settings and the name of one of its queues."""


@hookspec
def register_settings() -> Mapping[str, type[SettingsGroup]]:
    """Add groups of settings, by the word that their variables begin with. Called when the kit is first used.

    They are read and checked at the start, and `appkit settings` lists them; `settings.group(AuditSettings)` is the
    group. A value that is not acceptable stops the start, with a sentence that names the variable.

    Example:
        ```python
        class AuditSettings(SettingsGroup):
            keep_days: int = 90  # AUDIT_KEEP_DAYS


        @hookimpl
        def register_settings():
            return {"audit": AuditSettings}
        ```
    """


@hookspec
def register_routers(settings: Settings) -> list[APIRouter]:
    """Add routes, which are mounted under `settings.api_prefix` after the app's own. Called when the app is built.

    Example:
        ```python
        @hookimpl
        def register_routers():
            return [router]
        ```
    """


@hookspec
def register_middleware(settings: Settings) -> list[Middleware]:
    """Add ASGI middleware, inside appkit's own. Called when the app is built.

    Example:
        ```python
        @hookimpl
        def register_middleware():
            return [Middleware(GZipMiddleware, minimum_size=1000)]
        ```
    """


@hookspec
def register_exception_handlers() -> Mapping[type[Exception], Callable[..., Any]]:
    """Answer exceptions that appkit doesn't know, by their class. Called when the app is built.

    Example:
        ```python
        @hookimpl
        def register_exception_handlers():
            return {stripe.CardError: answer_card_error}
        ```
    """


@hookspec
def register_tasks() -> list[TaskRouter]:
    """Add background tasks and subscriptions to events. Called when the broker is built.

    Example:
        ```python
        @hookimpl
        def register_tasks():
            return [tasks]
        ```
    """


@hookspec
def register_brokers() -> list[BrokerScheme]:
    """Add schemes for `TASKS_BROKER_URL`; a plugin's wins over appkit's. Called when the broker is built.

    Any Taskiq broker will do, and can lose nothing: it only carries news of rows, which are announced again when
    nobody claims them within `TASKS_LEASE`. So it should drop what is old rather than keep it for ever.

    Example:
        ```python
        def connect(settings, queue):
            return KafkaBroker(settings.tasks.broker_url, topic=queue)


        @hookimpl
        def register_brokers():
            return [BrokerScheme("kafka", connect)]
        ```
    """


@hookspec
def register_commands(cli: Typer, kit: AppKit) -> None:
    """Add commands to `appkit`. Called when the first word on the command line is none of appkit's own.

    Args:
        cli: The command.
        kit: The app that it is about; in a command, `anyio.run` what begins with `async with kit.lifespan(work=False)`.

    Example:
        ```python
        @hookimpl
        def register_commands(cli):
            cli.add_typer(billing_commands, name="billing")
        ```
    """


@hookspec
def register_health_checks() -> list[HealthCheck]:
    """Add checks to `/api/health/ready`, which answers 503 while one of them raises. Called for each answer.

    Example:
        ```python
        async def check_search(app):
            await search.ping()


        @hookimpl
        def register_health_checks():
            return [HealthCheck("search", check_search)]
        ```
    """


@hookspec
def register_checks() -> list[Check]:
    """Add to what `appkit check` looks for. Called by that command.

    Example:
        ```python
        def find_unpriced(kit):
            return [name for name, price in PRICES.items() if price is None]


        @hookimpl
        def register_checks():
            return [Check("SHOP001", "An article has no price.", "Give it one.", find_unpriced)]
        ```
    """


@hookspec
def lifespan(kit: AppKit) -> AbstractAsyncContextManager[None]:
    """Open what lives as long as the process, and close it at the end. Entered by the app and by each worker.

    The latest registered is entered first and left last; the database is migrated by then.

    Example:
        ```python
        @hookimpl
        @asynccontextmanager
        async def lifespan(kit):
            async with SearchClient(kit.settings.group(SearchSettings).url):
                yield
        ```
    """


@hookspec
async def authenticate(request: HTTPConnection, db: AsyncSession) -> Principal | None:
    """Recognise credentials of your own, of a request or a websocket. Called before appkit reads its own.

    The first answer that isn't None is who asks; what is raised is the answer, so that a plugin that fails lets
    nobody in. Only headers will do: cookies other than appkit's are not looked at when another site sends a request.

    Args:
        request: What came.
        db: A session for looking them up, which is committed after; on SQLite it begins as a reader.

    Example:
        ```python
        @hookimpl
        async def authenticate(request, db):
            scheme, _, key = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() == "bearer" and key.startswith("ak_"):
                found = await ApiKeyService(db).get(key)
                return Principal(user_id=found.user_id, scopes=found.scopes)
        ```
    """


@hookspec
async def before_signin(user: BaseUser, methods: Sequence[str], device: Device, db: AsyncSession) -> Challenge | None:
    """Ask somebody who signs in for more, or refuse them by an exception. Called before a session begins.

    With a challenge, signing in answers `{"mfa_required": true, "challenge": …, "factors": […]}` and no session
    begins. A route of the plugin's takes the challenge with the proof, and calls `complete_challenge`.

    Args:
        user: Who signs in; their password was right.
        methods: How they proved it so far (RFC 8176): `["pwd"]`, or what a plugin's route passes to `complete_signin`.
            With `mfa` among them, they proved it in more than one way.
        device: Their address, `device.ip`, and `device.user_agent`.
        db: The session of the sign-in.

    Example:
        ```python
        @hookimpl
        async def before_signin(user, methods, db):
            if "mfa" not in methods and await TotpService(db).is_enabled(user):
                return Challenge(["totp", "recovery_code"])
        ```
    """


@hookspec
def token_claims(user: BaseUser) -> list[tuple[str, Any]]:
    """Add claims to a user's access tokens, as pairs of a name and a JSON value. Called for each token that is issued.

    A claim `scope`, names with spaces between, limits what the token is good for: see `require(scopes=…)`.

    Example:
        ```python
        @hookimpl
        def token_claims(user):
            return [("plan", user.plan)]
        ```
    """


@hookspec
async def check_password(password: str, user: BaseUser | None, db: AsyncSession) -> list[str]:
    """Refuse a new password, in sentences for the person who chose it. Called at sign-up and when one is changed.

    Args:
        password: The password as it was typed.
        user: Whose it will be; None at sign-up.
        db: The session in which it is set. Nothing may be read or written before it is known to be good.

    Example:
        ```python
        @hookimpl
        def check_password(password):
            return ["The company's name is not a good password."] if "acme" in password.lower() else []
        ```
    """


@hookspec
async def export_account(user: BaseUser, db: AsyncSession) -> list[tuple[str, Any]]:
    """Add to the copy that somebody takes of their data, as pairs of a name and what is kept. Called for each copy.

    When they delete their account, `UserDeleted` is emitted: delete what you keep about them then.

    Example:
        ```python
        @hookimpl
        async def export_account(user, db):
            return [("posts", [post.title for post in await Repository(db, Post).list(Post.author_id == user.id)])]
        ```
    """


@hookspec
async def write_mail(kind: str, user: BaseUser, to: str, link: str | None) -> Mail | None:
    """Write a mail about an account in words of your own. The first that isn't None is sent; else appkit's own is.

    Args:
        kind: `verify_email`, `account_exists`, `reset_password`, `reset_forced`, `password_changed`, `change_email`,
            `email_changed` or `account_deleted`.
        user: Whose account it is about.
        to: Where it goes, which may be another address than the account's.
        link: Where it leads, or, without `FRONTEND_URL`, the token alone; None for a mail that leads nowhere.

    Example:
        ```python
        @hookimpl
        def write_mail(kind, user, to, link):
            if kind == "reset_password":
                return Mail(to=to, subject="A new password", text=f"Hello {user.nickname}, go to {link}")
        ```
    """


@hookspec
async def render_exception(exception: Exception, request: Request) -> Response | None:
    """Answer a request that ends in an exception in words of your own. The first that isn't None is sent.

    Asked for API errors, for the framework's own, for what is not acceptable and for bugs. Where it fails itself, that
    is logged, and the usual problem document is sent.

    Example:
        ```python
        @hookimpl
        def render_exception(exception, request):
            if "text/html" in request.headers.get("accept", ""):
                return HTMLResponse(f"<h1>{exception}</h1>", getattr(exception, "status_code", 500))
        ```
    """


@hookspec
async def on_event(kit: AppKit, event: Event) -> None:
    """Observe whatever happens: every event, of every class, once its transaction has committed.

    A task tells each plugin, where tasks run: at least once, and again when it fails. With `PLUGINS_STRICT` a bug in it
    is tried once, and the task is dead; what may pass, such as a database that is away, is tried again all the same.

    Example:
        ```python
        @hookimpl
        async def on_event(kit, event):
            async with kit.session() as db:
                db.add(AuditEntry(what=repr(event)))
        ```
    """


@hookspec
async def on_exception(exception: Exception) -> None:
    """Observe an exception that nobody handled, in a route or a task. The ids of `appkit.core.context` are set.

    Example:
        ```python
        @hookimpl
        async def on_exception(exception):
            await pager.alert(repr(exception))
        ```
    """
