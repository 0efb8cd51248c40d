"""Each hook, from a plugin to what a user of the app sees."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import jwt
import pytest
from fastapi import APIRouter, HTTPException
from fastapi.middleware.gzip import GZipMiddleware
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import func, select
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from appkit.api.cookies import cookie_names
from appkit.api.hookspecs import HealthCheck
from appkit.cli import add_plugin_commands, create_cli
from appkit.cli.discovery import find_kit
from appkit.core.environment import variables
from appkit.core.mail import Mail
from appkit.core.settings import Settings, SettingsGroup
from appkit.domain.events import Event, UserSignedUp
from appkit.exceptions import AppKitError, NotFoundException, ServiceUnavailableException
from appkit.kit import AppKit, Check
from appkit.plugins.markers import hookimpl
from appkit.service.base import BaseService
from appkit.tasks.outcomes import Retry
from appkit.tasks.router import TaskRouter
from appkit.testing.kits import settings_for_tests
from appkit.testing.tasks import Tasks

Kit = Callable[..., AppKit]
SIGNUP = {"email": "ada@example.com", "password": "correct horse battery"}


@pytest.fixture
def make(tmp_path: Path) -> Kit:
    """A kit on a SQLite file, with a plugin of these hooks."""

    def make(*, strict: bool = True, **hooks: Any) -> AppKit:
        given = Settings(_env_file=None, plugins={"strict": strict})
        settings = settings_for_tests(given, f"sqlite+aiosqlite:///{tmp_path / 'test.db'}")
        settings = settings.model_copy(update={"plugins": given.plugins})
        plugin = SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})
        return AppKit(settings, plugins=[plugin], discover=False)

    return make


@asynccontextmanager
async def browser(kit: AppKit) -> AsyncIterator[AsyncClient]:
    await kit.database.create_all()
    transport = ASGITransport(kit.app, raise_app_exceptions=False)
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with (
        kit.app.router.lifespan_context(kit.app),
        AsyncClient(transport=transport, base_url="https://testserver", headers=headers) as client,
    ):
        yield client


def answering(path: str, error: Exception | None = None) -> list[APIRouter]:
    router = APIRouter()

    @router.get(path)
    async def answer() -> str:
        if error is not None:
            raise error
        return "a" * 2000

    return [router]


# What plugins contribute


class ShelfSettings(SettingsGroup):
    boards: int = 3


class CellarSettings(SettingsGroup):
    key: str


def test_hook_register_settings_reads_a_group_and_keeps_the_apps_own(make: Kit, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHELF_BOARDS", "5")
    kit = make(register_settings=lambda: {"shelf": ShelfSettings})
    assert kit.settings.group(ShelfSettings).boards == 5
    assert kit.settings.environment == "test"
    assert kit.settings.plugins.strict
    assert kit.context.settings is kit.settings
    assert "SHELF_BOARDS" in [variable.name for variable in variables(type(kit.settings))]


def test_hook_register_settings_keeps_what_a_test_gives(make: Kit):
    first = make(register_settings=lambda: {"shelf": ShelfSettings}).settings
    given = first.model_copy(update={"shelf": ShelfSettings(boards=9)})
    plugin = SimpleNamespace(register_settings=hookimpl(lambda: {"shelf": ShelfSettings}))
    kit = AppKit(given, plugins=[plugin], discover=False)
    assert kit.settings.group(ShelfSettings).boards == 9


def test_hook_register_settings_names_the_variable_that_is_wrong(make: Kit, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(AppKitError, match="^CELLAR_KEY: Field required$"):
        _ = make(register_settings=lambda: {"cellar": CellarSettings}).settings
    monkeypatch.setenv("SHELF_BOARDS", "many")
    with pytest.raises(AppKitError, match="^SHELF_BOARDS: ") as caught:
        _ = make(register_settings=lambda: {"shelf": ShelfSettings}).settings
    assert "many" not in str(caught.value)


def test_hook_register_settings_refuses_a_name_that_is_taken(make: Kit):
    with pytest.raises(AppKitError, match="have a field 'mail' already. Register ShelfSettings by another name"):
        _ = make(register_settings=lambda: {"mail": ShelfSettings}).settings
    kit = make(register_settings=lambda: [{"shelf": ShelfSettings}, {"shelf": CellarSettings}])
    with pytest.raises(AppKitError, match="Two plugins register settings called 'shelf'"):
        _ = kit.settings


def test_settings_without_a_group_say_where_it_comes_from(make: Kit):
    with pytest.raises(AppKitError, match="no group ShelfSettings. Return the group from register_settings"):
        make().settings.group(ShelfSettings)


async def test_hook_register_routers_serves_under_the_prefix(make: Kit):
    async with browser(make(register_routers=lambda: answering("/shelf"))) as client:
        assert (await client.get("/api/shelf")).status_code == 200


async def test_hook_register_routers_takes_no_route_from_the_app(make: Kit):
    own = APIRouter()

    @own.get("/shelf")
    async def answer() -> str:
        return "own"

    kit = make(register_routers=lambda: answering("/shelf"))
    kit._routers = [own]
    async with browser(kit) as client:
        assert (await client.get("/api/shelf")).json() == "own"


async def test_hook_register_middleware_wraps_the_routes(make: Kit):
    kit = make(
        register_routers=lambda: answering("/shelf"),
        register_middleware=lambda settings: [Middleware(GZipMiddleware, minimum_size=len(settings.app_name))],
    )
    async with browser(kit) as client:
        assert (await client.get("/api/shelf")).headers["Content-Encoding"] == "gzip"


async def test_hook_register_exception_handlers_answers_by_class(make: Kit):
    class CardDeclined(Exception): ...

    async def answer(request: Request, exc: CardDeclined) -> Response:
        return PlainTextResponse("declined", 402)

    kit = make(
        register_routers=lambda: answering("/pay", CardDeclined()),
        register_exception_handlers=lambda: {CardDeclined: answer},
    )
    async with browser(kit) as client:
        assert (await client.get("/api/pay")).status_code == 402


async def test_hook_register_tasks_lets_them_run(make: Kit):
    router, ran = TaskRouter(), []

    @router.task(name="hooks:dust")
    async def dust(shelf: str) -> None:
        ran.append(shelf)

    kit = make(register_tasks=lambda: router)
    async with browser(kit):
        await dust.kiq("top")
        await run_tasks(kit)
    assert ran == ["top"]


def test_hook_register_commands_adds_to_the_command(make: Kit, monkeypatch: pytest.MonkeyPatch):
    kit = make(register_commands=lambda cli: cli.command("dust")(lambda: None))
    monkeypatch.setattr("appkit.cli.discovery.find_kit", lambda: SimpleNamespace(kit=kit))
    cli = create_cli()
    add_plugin_commands(cli, ["dust"])
    assert cli.registered_commands[-1].name == "dust"
    assert find_kit is not None


async def test_hook_register_health_checks_decides_about_readiness(make: Kit):
    async def fail(_: object) -> None:
        raise OSError

    async with browser(make(register_health_checks=lambda: HealthCheck("shelf", fail))) as client:
        answer = await client.get("/api/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"]["shelf"] == "failed"


def test_hook_register_checks_adds_to_what_is_looked_for(make: Kit):
    check = Check("SHOP001", "An article has no price.", "Give it one.", lambda _: ["tea"])
    assert check in make(register_checks=lambda: check).plugins.collect("register_checks")


async def test_hook_lifespan_is_entered_and_left_with_the_app(make: Kit):
    steps: list[object] = []

    @asynccontextmanager
    async def lifespan(kit: AppKit) -> AsyncIterator[None]:
        async with kit.session() as db:
            steps.append(await db.scalar(select(func.count()).select_from(kit.context.user_model)))
        yield
        steps.append("left")

    async with browser(make(lifespan=lifespan)):
        assert steps == [0]
    assert steps == [0, "left"]


async def test_hook_token_claims_are_in_access_tokens(make: Kit):
    kit = make(token_claims=lambda user: [("plan", user.email.partition("@")[0])])
    async with browser(kit) as client:
        await client.post("/api/auth/signup", json=SIGNUP)
        token = client.cookies[cookie_names(kit.settings).access]
    assert jwt.decode(token, options={"verify_signature": False})["plan"] == "ada"


async def test_hook_check_password_refuses_in_words(make: Kit):
    kit = make(check_password=lambda password: ["No horses."] if "horse" in password else [])
    async with browser(kit) as client:
        answer = await client.post("/api/auth/signup", json=SIGNUP)
    assert answer.status_code == 422
    assert "No horses." in answer.text


async def test_hook_write_mail_says_it_in_other_words(make: Kit):
    kit = make(write_mail=lambda kind, to: Mail(to=to, subject=f"My {kind}", text="Hello."))
    async with browser(kit) as client:
        await client.post("/api/auth/signup", json=SIGNUP)
        await client.post("/api/auth/password/forgot", json={"email": SIGNUP["email"]})
        await run_tasks(kit)
    outbox: list[Mail] = kit.mailer.outbox  # type: ignore[attr-defined] # It is memory://.
    assert "My reset_password" in [mail.subject for mail in outbox]


# What plugins answer


@pytest.mark.parametrize("error", [NotFoundException(), HTTPException(418), ZeroDivisionError()], ids=repr)
async def test_hook_render_exception_replaces_the_answer(make: Kit, error: Exception):
    async def render(exception: Exception, request: Request) -> Response | None:
        if request.headers.get("accept") != "text/html":
            return None
        return PlainTextResponse(type(exception).__name__, 499)

    kit = make(register_routers=lambda: answering("/shelf", error), render_exception=render)
    async with browser(kit) as client:
        page = await client.get("/api/shelf", headers={"Accept": "text/html"})
        document = await client.get("/api/shelf")
    assert (page.status_code, page.text) == (499, type(error).__name__)
    assert document.headers["content-type"] == "application/problem+json"


async def test_hook_render_exception_hides_no_bug(make: Kit):
    """Nor one that a handler of ours looks at and leaves: it is reported, whatever the answer."""
    seen: list[Exception] = []
    bug = OverflowError("Python int too large")
    kit = make(
        register_routers=lambda: answering("/shelf", bug),
        render_exception=lambda: JSONResponse("all is well"),
        on_exception=lambda exception: seen.append(exception),  # noqa: PLW0108 - called by name
    )
    async with browser(kit) as client:
        assert (await client.get("/api/shelf")).json() == "all is well"
    assert seen == [bug]


@pytest.mark.parametrize(("strict", "status"), [(False, 404), (True, 500)])
async def test_hook_render_exception_that_fails_loses_no_answer(make: Kit, strict: bool, status: int):
    kit = make(
        strict=strict,
        register_routers=lambda: answering("/shelf", NotFoundException()),
        render_exception=lambda: 1 / 0,
    )
    async with browser(kit) as client:
        answer = await client.get("/api/shelf")
    assert answer.json()["status"] == answer.status_code == status


# What plugins observe


class ShelfBuilt(Event):
    shelf_id: UUID


ShelfBuilt.__module__ = "workshop.shelves"


async def run_tasks(kit: AppKit, *, check: bool = True) -> list[Any]:
    async def nothing() -> None: ...

    return await Tasks(kit, nothing).run(check=check)


async def test_hook_on_event_hears_of_everything_after_the_commit(make: Kit):
    told: list[tuple[AppKit, Event]] = []
    kit = make(on_event=lambda kit, event: told.append((kit, event)))
    async with browser(kit) as client:
        await client.post("/api/auth/signup", json=SIGNUP)
        assert told == []
        await run_tasks(kit)
    assert {type(event) for _, event in told} >= {UserSignedUp}
    assert all(told_kit is kit for told_kit, _ in told)


async def test_hook_on_event_hears_of_nothing_that_was_rolled_back(make: Kit):
    told: list[Event] = []
    kit = make(on_event=lambda event: told.append(event))  # noqa: PLW0108 - called by name
    async with browser(kit):
        async with kit.session() as db:
            BaseService(db).emit(ShelfBuilt(shelf_id=UUID(int=1)))
            await db.rollback()
        assert await run_tasks(kit) == []
        async with kit.session() as db:
            BaseService(db).emit(ShelfBuilt(shelf_id=UUID(int=2)))
        await run_tasks(kit)
    assert told == [ShelfBuilt(shelf_id=UUID(int=2))]


async def test_hook_on_event_that_fails_is_tried_again_and_holds_up_no_other(
    make: Kit, caplog: pytest.LogCaptureFixture
):
    told: list[Event] = []
    kit = make(strict=False, on_event=lambda event: told.append(event))  # noqa: PLW0108 - called by name
    kit.plugins.register(SimpleNamespace(on_event=hookimpl(lambda: 1 / 0)), "broken")
    async with browser(kit):
        async with kit.session() as db:
            BaseService(db).emit(ShelfBuilt(shelf_id=UUID(int=3)))
        rows = await run_tasks(kit, check=False)
    assert sorted(row.state for row in rows) == ["done", "scheduled"]
    assert len(told) == 1
    assert "Plugin 'broken' failed in on_event()." in caplog.text


@pytest.mark.parametrize(
    ("failure", "state"),
    [(ZeroDivisionError("a bug"), "dead"), (ServiceUnavailableException(), "scheduled"), (Retry(60), "scheduled")],
)
async def test_hook_on_event_with_a_bug_fails_loudly_where_plugins_are_strict(
    make: Kit, caplog: pytest.LogCaptureFixture, failure: Exception, state: str
):
    told: list[Exception] = []

    def fail() -> None:
        raise failure

    kit = make(on_event=fail, on_exception=lambda exception: told.append(exception))  # noqa: PLW0108 - called by name
    async with browser(kit):
        async with kit.session() as db:
            BaseService(db).emit(ShelfBuilt(shelf_id=UUID(int=5)))
        (row,) = await run_tasks(kit, check=False)
    assert (row.state, row.attempts) == (state, 1)
    assert "failed in on_event()" in caplog.text
    if state == "dead":
        assert (
            row.last_error
            == "PluginFailedError: Plugin 'SimpleNamespace' failed in on_event(): ZeroDivisionError: a bug"
        )
        assert [exception.__cause__ for exception in told] == [failure]


async def test_hook_on_event_of_a_plugin_that_is_gone_is_nobodys(make: Kit, tmp_path: Path):
    kit = make(on_event=lambda: None)
    await kit.database.create_all()
    async with kit.session() as db:
        BaseService(db).emit(ShelfBuilt(shelf_id=UUID(int=4)))
    await kit.database.dispose()
    later = make()
    async with browser(later):
        (row,) = await run_tasks(later)
    assert row.state == "done"


async def test_hook_on_exception_is_told_of_bugs(make: Kit):
    told: list[Exception] = []
    bug = ZeroDivisionError()
    kit = make(
        register_routers=lambda: answering("/shelf", bug),
        on_exception=lambda exception: told.append(exception),  # noqa: PLW0108 - called by name
    )
    async with browser(kit) as client:
        assert (await client.get("/api/shelf")).status_code == 500
    assert told == [bug]
