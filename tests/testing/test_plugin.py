"""The pytest plugin's fixtures, on both databases."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import pytest
from fastapi import APIRouter
from httpx2 import AsyncClient, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from appkit.api.dependencies import CurrentUser, DbSession
from appkit.core.mail import Mail
from appkit.core.settings import Settings
from appkit.domain.events import Event
from appkit.exceptions import APIException, InvalidCredentialsException, NotFoundException, UnauthorizedException
from appkit.kit import AppKit
from appkit.repository.base import BaseTableModel
from appkit.repository.user import BaseUser
from appkit.service.base import BaseService
from appkit.tasks.context import TaskContext, TaskSession
from appkit.tasks.router import TaskRouter, enqueue
from appkit.testing.kits import rebuilt
from appkit.testing.plugin import PASSWORD, MakeUser
from appkit.testing.tasks import Tasks

router = APIRouter(prefix="/stamps")
jobs = TaskRouter()


class Stamp(BaseTableModel):
    motif: Mapped[str]
    seen: Mapped[bool] = mapped_column(default=False)


class StampAdded(Event):
    stamp_id: UUID


class StampService(BaseService):
    async def add(self, motif: str) -> Stamp:
        stamp = await self.save(Stamp(motif=motif))
        self.emit(StampAdded(stamp_id=stamp.id))
        return stamp


@router.get("")
async def list_stamps(db: DbSession) -> list[str]:
    return list(await db.scalars(select(Stamp.motif)))


@router.post("", status_code=201)
async def add_stamp(motif: str, user: CurrentUser, db: DbSession) -> str:
    await StampService(db).add(motif)
    if motif == "forbidden":
        raise NotFoundException
    return user.email


@jobs.on(StampAdded)
async def look_at_stamp(event: StampAdded, db: TaskSession) -> None:
    stamp = await db.get_one(Stamp, event.stamp_id)
    stamp.seen = True
    enqueue(db, write_to_collector, "ada@example.com", motif=stamp.motif)


@jobs.task
async def write_to_collector(to: str, *, motif: str, context: TaskContext) -> None:
    if motif == "torn":
        raise ValueError("It is torn.")
    await context.mailer.send(Mail(to=to, subject=motif, text="A new stamp."))


@pytest.fixture
def kit(settings: Settings) -> AppKit:
    return AppKit(settings, routers=[router], task_routers=[jobs])


AssertError = Callable[[Response, type[APIException]], dict[str, Any]]


async def test_database_is_empty_and_real(db: AsyncSession, database_url: str, kit: AppKit) -> None:
    assert kit.settings.database.url == database_url
    assert list(await db.scalars(select(Stamp))) == []


async def test_client_sees_what_the_test_wrote(client: AsyncClient, db: AsyncSession) -> None:
    """The test needs no explicit commit, although the request has another database session."""
    db.add(Stamp(motif="swan"))
    assert (await client.get("/api/stamps")).json() == ["swan"]
    db.add(Stamp(motif="heron"))
    assert (await client.get("/api/stamps")).json() == ["swan", "heron"]


async def test_db_sees_what_a_request_wrote(auth_client: AsyncClient, db: AsyncSession) -> None:
    assert list(await db.scalars(select(Stamp.motif))) == []
    await auth_client.post("/api/stamps", params={"motif": "swan"})
    assert list(await db.scalars(select(Stamp.motif))) == ["swan"]


async def test_failed_request_leaves_nothing_behind(
    auth_client: AsyncClient, db: AsyncSession, events: list[Event], tasks: Tasks, assert_error: AssertError
) -> None:
    assert_error(await auth_client.post("/api/stamps", params={"motif": "forbidden"}), NotFoundException)
    assert list(await db.scalars(select(Stamp))) == []
    assert not [event for event in events if isinstance(event, StampAdded)]
    assert await tasks.sent(look_at_stamp) == []


async def test_auth_client_is_user(auth_client: AsyncClient, user: BaseUser) -> None:
    assert (await auth_client.get("/api/auth/me")).json()["id"] == str(user.id)
    assert (await auth_client.post("/api/stamps", params={"motif": "swan"})).json() == user.email


async def test_client_is_not_signed_in(
    client: AsyncClient, auth_client: AsyncClient, assert_error: AssertError
) -> None:
    """Another client may be signed in at the same time."""
    assert_error(await client.get("/api/auth/me"), UnauthorizedException)


async def test_admin_client_is_a_superuser(admin_client: AsyncClient) -> None:
    assert (await admin_client.get("/api/auth/me")).json()["is_superuser"]


async def test_make_user_creates_users_who_can_sign_in(
    make_user: MakeUser, client: AsyncClient, assert_error: AssertError
) -> None:
    ada = await make_user("ada@example.com", "countess of lovelace")
    other = await make_user()
    assert ada.email != other.email
    signin = "/api/auth/signin"
    assert_error(
        await client.post(signin, json={"email": ada.email, "password": PASSWORD}), InvalidCredentialsException
    )
    assert (await client.post(signin, json={"email": other.email, "password": PASSWORD})).status_code == 200


async def test_tasks_run_only_when_asked(
    db: AsyncSession, tasks: Tasks, events: list[Event], mailbox: list[Mail]
) -> None:
    stamp = await StampService(db).add("swan")
    assert events == []
    (task,) = await tasks.sent("look_at_stamp", stamp_id=stamp.id)
    assert task.state == "pending"
    assert events == [StampAdded(stamp_id=stamp.id)]
    assert await tasks.sent(write_to_collector) == []
    assert mailbox == []

    assert [task.task_name for task in await tasks.run()] == [look_at_stamp.name, write_to_collector.name]

    await db.refresh(stamp)
    assert stamp.seen
    assert [mail.subject for mail in mailbox] == ["swan"]
    assert await tasks.sent(write_to_collector, to="ada@example.com", motif="swan")
    assert await tasks.sent(write_to_collector, motif="heron") == []
    assert await tasks.run() == []


async def test_failed_task_fails_the_test(db: AsyncSession, tasks: Tasks) -> None:
    enqueue(db, write_to_collector, "ada@example.com", motif="torn")
    with pytest.raises(AssertionError, match="write_to_collector: ValueError: It is torn."):
        await tasks.run()


async def test_failed_task_is_returned_on_request(db: AsyncSession, tasks: Tasks) -> None:
    enqueue(db, write_to_collector, "ada@example.com", motif="torn")
    (row,) = await tasks.run(check=False)
    assert (row.state, row.attempts) == ("scheduled", 1)


async def test_count_queries_counts_those_of_a_request(
    client: AsyncClient, count_queries: Callable[..., AbstractContextManager[list[str]]]
) -> None:
    with count_queries(max=1) as statements:
        await client.get("/api/stamps")
    assert "FROM stamp" in statements[0]


@pytest.mark.usefixtures("never_blocks")
async def test_never_blocks_passes_when_an_app_awaits(auth_client: AsyncClient) -> None:
    await auth_client.post("/api/stamps", params={"motif": "swan"})


def test_settings_reach_no_other_server(settings: Settings) -> None:
    assert settings.environment == "test"
    assert settings.mail.url == "memory://"
    assert settings.redis.url is None
    assert not settings.sentry.enabled
    assert not settings.tasks.embedded


@pytest.fixture
def own_kit() -> AppKit:
    return AppKit(Settings(app_name="before"), task_routers=[jobs])


async def test_rebuilt_kit_is_the_same_and_its_parts_are_not(own_kit: AppKit, settings: Settings) -> None:
    """A task that refers to the kit of its module uses the test's database."""
    before = own_kit.app, own_kit.database, own_kit.broker
    with rebuilt(own_kit, settings) as kit:
        assert kit is own_kit
        assert kit.settings is settings
        assert not {kit.app, kit.database, kit.broker}.intersection(before)
        assert kit.app.state.appkit is kit.context
        await kit.database.create_all()
        handle = await look_at_stamp.kiq(StampAdded(stamp_id=UUID(int=0)))
        assert handle.task_id
        await kit.database.dispose()
    assert own_kit.settings.app_name == "before"
    assert (own_kit.app, own_kit.database, own_kit.broker) == before


@pytest.mark.slow
@pytest.mark.clock(reason="150 ms of blocking must be found, and a delay that a busy machine causes must not.")
def test_never_blocks_fails_and_names_the_blocking_line(pytester: pytest.Pytester) -> None:
    """In a route, a dependency, a hook and a task, with `appkit_never_blocks` in the configuration."""
    pytester.makepyfile(
        shop="""
        import time
        from typing import Annotated
        from fastapi import APIRouter, Depends
        from appkit import AppKit, hookimpl
        router = APIRouter()
        @router.get("/route")
        async def slow_route() -> None:
            time.sleep(0.15)  # in a route
        async def slow_dependency() -> None:
            time.sleep(0.15)  # in a dependency
        @router.get("/dependency", dependencies=[Depends(slow_dependency)])
        async def route() -> None: ...
        @router.get("/bug")
        async def bug() -> None:
            raise ZeroDivisionError
        class Plugin:
            @hookimpl
            def on_exception(self) -> None:
                time.sleep(0.15)  # in a hook
        kit = AppKit(routers=[router], plugins=[Plugin()])
        @kit.task
        async def slow_task() -> None:
            time.sleep(0.15)  # in a task
        """,
        test_shop="""
        import pytest
        from shop import kit as shop_kit, slow_task
        @pytest.fixture
        def anyio_backend():
            return "asyncio"
        async def test_nothing_slow(auth_client, kit):
            assert kit is shop_kit
            assert (await auth_client.get("/api/auth/me")).status_code == 200
        async def test_route(client):
            assert (await client.get("/api/route")).status_code == 200
        async def test_dependency(client):
            assert (await client.get("/api/dependency")).status_code == 200
        async def test_hook(client):
            with pytest.raises(ZeroDivisionError):
                await client.get("/api/bug")
        async def test_task(tasks):
            await slow_task.kiq()
            await tasks.run()
        def test_sync(kit): ...
        """,
    )
    options = ("anyio_mode=auto", "appkit_kit=shop:kit", "appkit_never_blocks=true")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *(f"-o{option}" for option in options))
    result.assert_outcomes(passed=6, errors=4)
    for function, where in (
        ("slow_route", "route"),
        ("slow_dependency", "dependency"),
        ("on_exception", "hook"),
        ("slow_task", "task"),
    ):
        named = rf"event loop was blocked: \d+ ms in {function} \(.*shop.py:\d+\): time.sleep\(0.15\)  # in a {where}$"
        assert re.search(named, result.stdout.str(), re.MULTILINE), result.stdout.str()
