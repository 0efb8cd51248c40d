"""The pytest plugin: fixtures for the tests of an app.

    [tool.pytest]
    appkit_kit = "bookmarks:kit"
    anyio_mode = "auto"

Each test has an empty database of its own, and commits are real.
"""

# pytest imports this module wherever appkit is installed. So each fixture imports the expensive modules that it needs.
import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
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

_NewClient = Callable[[], "AsyncClient"]

PASSWORD = "correct horse battery staple"  # noqa: S105 - the password of all test users


class MakeUser(Protocol):
    """Type of the fixture `make_user`."""

    def __call__(
        self, email: str | None = None, password: str = PASSWORD, *, superuser: bool = False
    ) -> "Awaitable[BaseUser]":
        """Create a user who can sign in."""
        ...  # Required by pyright in a protocol.


class OpenSessions(list["AsyncSession"]):
    """The test's database sessions."""

    async def commit(self, *_: object) -> None:
        """Commit all sessions. The app has other sessions, and sees only committed rows."""
        for session in self:
            if session.in_transaction():
                await session.commit()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `appkit_kit` and `appkit_never_blocks`."""
    parser.addini("appkit_kit", "The kit to test, as in bookmarks:kit.", default="")
    parser.addini("appkit_never_blocks", "Apply the fixture never_blocks to every async test.", "bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Set ENVIRONMENT=test before the app is imported."""
    if config.getini("appkit_kit"):
        os.environ["ENVIRONMENT"] = "test"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Set up `never_blocks` after all other fixtures, because building an app may block the event loop."""
    if not isinstance(item, pytest.Function) or not iscoroutinefunction(item.function):
        return
    if "never_blocks" in item.fixturenames:
        item.fixturenames.remove("never_blocks")
    elif not item.config.getini("appkit_never_blocks"):
        return
    item.fixturenames.append("never_blocks")


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The URL of an empty SQLite database for each test. To use PostgreSQL, override it with `fresh_database`."""
    return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(scope="session")
def _kit_under_test(request: pytest.FixtureRequest) -> "AppKit | None":
    path: str = request.config.getini("appkit_kit")
    return resolve_name(path) if path else None


@pytest.fixture
def settings(_kit_under_test: "AppKit | None", database_url: str) -> "Settings":
    """The app's settings, changed by `settings_for_tests`."""
    from appkit.core.settings import Settings
    from appkit.testing.kits import settings_for_tests

    return settings_for_tests(_kit_under_test.settings if _kit_under_test else Settings(), database_url)


@pytest.fixture
def kit(_kit_under_test: "AppKit | None", settings: "Settings") -> "Iterator[AppKit]":
    """The kit that `appkit_kit` names, or else a new `AppKit()`. It has the settings of the fixture `settings`."""
    from appkit.kit import AppKit
    from appkit.testing.kits import rebuilt

    with rebuilt(_kit_under_test or AppKit(), settings) as kit:
        yield kit


@pytest.fixture
async def app(kit: "AppKit") -> "AsyncIterator[FastAPI]":
    """The app after startup, with the tables of its models."""
    app = kit.app
    await kit.database.create_all()
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def _sessions() -> OpenSessions:
    return OpenSessions()


@pytest.fixture
async def db(kit: "AppKit", app: "FastAPI", _sessions: OpenSessions) -> "AsyncIterator[AsyncSession]":
    """A database session for the test. It is committed before each request of a client, and by `commit()`."""
    async with kit.session() as session:
        _sessions.append(session)
        yield session
        _sessions.remove(session)
        await session.rollback()


@pytest.fixture
def _new_client(app: "FastAPI", _sessions: OpenSessions) -> _NewClient:
    from httpx2 import ASGITransport, AsyncClient

    return lambda: AsyncClient(
        transport=ASGITransport(app),
        base_url="https://testserver",
        headers={"Sec-Fetch-Site": "same-origin"},
        event_hooks={"request": [_sessions.commit]},
    )


@pytest.fixture
async def client(_new_client: _NewClient) -> "AsyncIterator[AsyncClient]":
    """An HTTP client that is not signed in."""
    async with _new_client() as client:
        yield client


@pytest.fixture
def make_user(kit: "AppKit", app: "FastAPI", _sessions: OpenSessions) -> MakeUser:
    """A function that creates users. The e-mail address and the password are optional."""
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
    """A user who can sign in with `PASSWORD`."""
    return await make_user("user@example.com")


@pytest.fixture
async def auth_client(_new_client: _NewClient, settings: "Settings", user: "BaseUser") -> "AsyncIterator[AsyncClient]":
    """An HTTP client signed in as `user`."""
    async with _new_client() as client:
        await _sign_in(client, settings, user)
        yield client


@pytest.fixture
async def admin_client(
    _new_client: _NewClient, settings: "Settings", make_user: MakeUser
) -> "AsyncIterator[AsyncClient]":
    """An HTTP client signed in as a superuser."""
    async with _new_client() as client:
        await _sign_in(client, settings, await make_user("admin@example.com", superuser=True))
        yield client


async def _sign_in(client: "AsyncClient", settings: "Settings", user: "BaseUser") -> None:
    account = {"email": user.email, "password": PASSWORD}
    response = await client.post(f"{settings.api_prefix}/auth/signin", json=account)
    assert response.is_success, response.text


@pytest.fixture
def tasks(kit: "AppKit", app: "FastAPI", _sessions: OpenSessions) -> "Tasks":
    """The committed tasks. `await tasks.run()` runs them."""
    from appkit.testing.tasks import Tasks

    return Tasks(kit, before=_sessions.commit)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> "list[Event]":
    """The events of committed transactions, in order."""
    from appkit.repository.database import on_commit
    from appkit.service.base import BaseService

    committed: list[Event] = []
    emit = BaseService.emit

    def emit_and_record(self: BaseService, event: "Event") -> None:
        emit(self, event)
        on_commit(self.db, lambda: committed.append(event))

    monkeypatch.setattr(BaseService, "emit", emit_and_record)
    return committed


@pytest.fixture
def mailbox(kit: "AppKit") -> "list[Mail]":
    """The sent mails. Tasks send mails, so call `await tasks.run()` first."""
    from appkit.core.mail import MemoryMailer

    assert isinstance(kit.mailer, MemoryMailer), "The fixture `mailbox` needs MAIL_URL=memory://."
    return kit.mailer.outbox


@pytest.fixture
def count_queries() -> "Callable[..., AbstractContextManager[list[str]]]":
    """A context manager that collects SQL statements, and fails when there are more than `max` statements."""
    from appkit.testing.checks import count_queries

    return count_queries


@pytest.fixture
def assert_error() -> "Callable[[Response, type[APIException]], dict[str, Any]]":
    """A function that checks an error response, as in `assert_error(response, EmailTakenException)`."""
    from appkit.testing.checks import assert_error

    return assert_error


@pytest.fixture
async def never_blocks() -> AsyncIterator[None]:
    """Fail the test when its event loop is blocked for more than 100 ms, and name the line.

    `appkit_never_blocks = true` in the configuration applies this fixture to every async test.
    """
    from appkit.core.watchdog import watch_loop

    with watch_loop(asyncio.get_running_loop()) as found:
        yield
    if found:
        pytest.fail("The event loop was blocked: " + "; ".join(map(str, found)), pytrace=False)
