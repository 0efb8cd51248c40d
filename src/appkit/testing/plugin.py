"""The pytest plugin: fixtures for the tests of an app.

Point it at the app, and tell AnyIO's plugin to run async tests:

    [tool.pytest]
    appkit_kit = "bookmarks:kit"
    anyio_mode = "auto"

Each test has a database of its own, so that transactions are real ones. It is SQLite unless you override
`database_url`, and other settings are changed by overriding `settings`.
"""

# pytest imports this wherever appkit is installed, so what is expensive waits for a fixture that needs it.
import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from inspect import iscoroutinefunction
from itertools import count
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from fastapi import FastAPI
    from httpx2 import AsyncClient, Response
    from sqlalchemy.ext.asyncio import AsyncSession

    from appkit.core.mail import Mail
    from appkit.core.settings import Settings
    from appkit.domain.events import Event
    from appkit.exceptions import APIException
    from appkit.kit import AppKit
    from appkit.repository.user import BaseUser
    from appkit.testing.tasks import Tasks

PASSWORD = "correct horse battery staple"  # noqa: S105  # Of every user whom tests make.


class MakeUser(Protocol):
    """Makes a user who can sign in."""

    def __call__(
        self, email: str | None = None, password: str = PASSWORD, *, superuser: bool = False
    ) -> "Awaitable[BaseUser]":
        """Make them."""
        ...  # pyright asks for it in a protocol.


class OpenSessions(list["AsyncSession"]):
    """The test's own sessions. They end their transactions before the app works, which has sessions of its own."""

    async def commit(self, *_: object) -> None:
        """Let everybody see what the test did so far."""
        for session in self:
            if session.in_transaction():
                await session.commit()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `appkit_kit` and `appkit_never_blocks`."""
    parser.addini("appkit_kit", "The kit that tests are about, as in bookmarks:kit.", default="")
    parser.addini(
        "appkit_never_blocks", "Whether every async test has the fixture never_blocks.", "bool", default=False
    )


def pytest_configure(config: pytest.Config) -> None:
    """See that the app is in a test from its first import on."""
    if config.getini("appkit_kit"):
        os.environ["ENVIRONMENT"] = "test"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let `never_blocks` watch an async test once its other fixtures are there, for an app may take long to build."""
    if not isinstance(item, pytest.Function) or not iscoroutinefunction(item.function):
        return
    if "never_blocks" in item.fixturenames:
        item.fixturenames.remove("never_blocks")
    elif not item.config.getini("appkit_never_blocks"):
        return
    item.fixturenames.append("never_blocks")


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """An empty database of the test's own: a SQLite file. Override it for another, as `fresh_database` makes."""
    return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(scope="session")
def _kit_under_test(request: pytest.FixtureRequest) -> "AppKit | None":
    path: str = request.config.getini("appkit_kit")
    return resolve_name(path) if path else None


@pytest.fixture
def settings(_kit_under_test: "AppKit | None", database_url: str) -> "Settings":
    """The app's settings, with memory mail and nothing that reaches out of the test."""
    from appkit.core.settings import Settings
    from appkit.testing.kits import settings_for_tests

    return settings_for_tests(_kit_under_test.settings if _kit_under_test else Settings(), database_url)


@pytest.fixture
def kit(_kit_under_test: "AppKit | None", settings: "Settings") -> "Iterator[AppKit]":
    """The kit named by `appkit_kit`, built anew with the test's settings; without one, a plain kit."""
    from appkit.kit import AppKit
    from appkit.testing.kits import rebuilt

    with rebuilt(_kit_under_test or AppKit(), settings) as kit:
        yield kit


@pytest.fixture
async def app(kit: "AppKit") -> "AsyncIterator[FastAPI]":
    """The app, started, with the tables of its models."""
    app = kit.app
    await kit.database.create_all()
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def _sessions() -> OpenSessions:
    return OpenSessions()


@pytest.fixture
async def db(kit: "AppKit", app: "FastAPI", _sessions: OpenSessions) -> "AsyncIterator[AsyncSession]":
    """A session for the test itself, which commits before each request of a client, and when told to."""
    async with kit.session() as session:
        _sessions.append(session)
        yield session
        _sessions.remove(session)
        await session.rollback()


@pytest.fixture
def _new_client(app: "FastAPI", _sessions: OpenSessions) -> "Callable[[], AbstractAsyncContextManager[AsyncClient]]":
    from httpx2 import ASGITransport, AsyncClient

    def new_client() -> AsyncClient:
        return AsyncClient(
            transport=ASGITransport(app),
            base_url="https://testserver",
            headers={"Sec-Fetch-Site": "same-origin"},
            event_hooks={"request": [_sessions.commit]},
        )

    return new_client


@pytest.fixture
async def client(_new_client: "Callable[[], AbstractAsyncContextManager[AsyncClient]]") -> "AsyncIterator[AsyncClient]":
    """A browser that nobody is signed in with."""
    async with _new_client() as client:
        yield client


@pytest.fixture
def make_user(kit: "AppKit", app: "FastAPI", _sessions: OpenSessions) -> MakeUser:
    """Makes further users: call it with an address and a password, or with nothing."""
    from appkit.service.users import UserService

    numbers = count(1)

    async def make(email: str | None = None, password: str = PASSWORD, *, superuser: bool = False) -> "BaseUser":
        await _sessions.commit()
        async with kit.session() as db:
            email = email or f"user{next(numbers)}@example.com"
            return await UserService(db).create(email, password, superuser=superuser)

    return make


@pytest.fixture
async def user(make_user: MakeUser) -> "BaseUser":
    """Somebody who can sign in with `PASSWORD`."""
    return await make_user("user@example.com")


@pytest.fixture
async def auth_client(
    _new_client: "Callable[[], AbstractAsyncContextManager[AsyncClient]]", settings: "Settings", user: "BaseUser"
) -> "AsyncIterator[AsyncClient]":
    """A browser in which `user` is signed in."""
    async with _signed_in(_new_client(), settings, user) as client:
        yield client


@pytest.fixture
async def admin_client(
    _new_client: "Callable[[], AbstractAsyncContextManager[AsyncClient]]", settings: "Settings", make_user: MakeUser
) -> "AsyncIterator[AsyncClient]":
    """A browser in which a superuser is signed in."""
    async with _signed_in(_new_client(), settings, await make_user("admin@example.com", superuser=True)) as client:
        yield client


@asynccontextmanager
async def _signed_in(
    new_client: "AbstractAsyncContextManager[AsyncClient]", settings: "Settings", user: "BaseUser"
) -> "AsyncIterator[AsyncClient]":
    async with new_client as client:
        credentials = {"email": user.email, "password": PASSWORD}
        response = await client.post(f"{settings.api_prefix}/auth/signin", json=credentials)
        assert response.is_success, response.text
        yield client


@pytest.fixture
def tasks(kit: "AppKit", app: "FastAPI", _sessions: OpenSessions) -> "Tasks":
    """The tasks that were committed; none runs before `await tasks.run()`."""
    from appkit.testing.tasks import Tasks

    return Tasks(kit, before=_sessions.commit)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> "list[Event]":
    """The events whose transactions were committed, in order."""
    from appkit.repository.database import on_commit
    from appkit.service.base import BaseService

    committed: list[Event] = []
    emit = BaseService.emit

    def emit_and_remember(self: BaseService, event: "Event") -> None:
        emit(self, event)
        on_commit(self.db, lambda: committed.append(event))

    monkeypatch.setattr(BaseService, "emit", emit_and_remember)
    return committed


@pytest.fixture
def mailbox(kit: "AppKit") -> "list[Mail]":
    """The mails that were sent; tasks send them, so `await tasks.run()` first."""
    from appkit.core.mail import MemoryMailer

    assert isinstance(kit.mailer, MemoryMailer), "The fixture `mailbox` needs MAIL_URL=memory://."
    return kit.mailer.outbox


@pytest.fixture
def count_queries() -> "Callable[..., AbstractContextManager[list[str]]]":
    """Counts the statements of a `with` block, and fails it when there are more than `max`."""
    from appkit.testing.checks import count_queries

    return count_queries


@pytest.fixture
def assert_error() -> "Callable[[Response, type[APIException]], dict[str, Any]]":
    """Checks that a response is an exception's, as in `assert_error(response, EmailTakenException)`."""
    from appkit.testing.checks import assert_error

    return assert_error


@pytest.fixture
async def never_blocks() -> AsyncIterator[None]:
    """Fail the test when one step of the event loop takes more than 100 ms, and name the line.

    The setting `appkit_never_blocks = true` does so for every async test.
    """
    from appkit.core.watchdog import watch_loop

    with watch_loop(asyncio.get_running_loop()) as found:
        yield
    if found:
        pytest.fail("The event loop was held: " + "; ".join(map(str, found)), pytrace=False)
