"""The fixture `tasks` as an app's own tests use it, on both databases."""

from datetime import timedelta

import pytest
from fastapi import APIRouter
from httpx2 import AsyncClient
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped

from appkit.api.dependencies import DbSession
from appkit.core.settings import Settings
from appkit.exceptions import ConflictException
from appkit.kit import AppKit
from appkit.repository.base import BaseTableModel
from appkit.tasks.arguments import InvalidArguments
from appkit.tasks.context import TaskContext, TaskSession
from appkit.tasks.outcomes import Discard
from appkit.tasks.router import TaskRouter, enqueue
from appkit.testing.tasks import Drained, Tasks

router = APIRouter(prefix="/parcels")
jobs = TaskRouter()


class Parcel(BaseTableModel):
    place: Mapped[str]


class LostException(ConflictException):
    """The parcel is nowhere."""

    internal_code = 40942
    detail = "The parcel is nowhere."


@router.post("", status_code=201)
async def send(place: str, db: DbSession) -> None:
    enqueue(db, deliver, place)


@router.get("")
async def where(db: DbSession) -> list[str]:
    return list(await db.scalars(select(Parcel.place).order_by(Parcel.id)))


@jobs.task(retry_delay=60, max_attempts=2)
async def deliver(place: str, db: TaskSession, ctx: TaskContext) -> int:
    match place:
        case "abroad":
            enqueue(db, deliver.with_options(delay=timedelta(hours=1)), "customs")
        case "nowhere":
            raise LostException
        case "at sea" if ctx.attempt == 1:
            raise OSError
        case "returned":
            raise Discard
    db.add(Parcel(place=place))
    return len(place)


@pytest.fixture
def kit(settings: Settings) -> AppKit:
    return AppKit(settings, routers=[router], task_routers=[jobs])


async def test_inline_tasks_have_run_when_the_request_is_answered(client: AsyncClient, tasks: Tasks) -> None:
    tasks.mode = "inline"
    for place in ("home", "abroad", "nowhere"):
        assert (await client.post(f"/api/parcels?place={place}")).status_code == 201

    assert (await client.get("/api/parcels")).json() == ["home", "abroad"]
    tasks.mode = "manual"
    await client.post("/api/parcels?place=later")
    assert (await client.get("/api/parcels")).json() == ["home", "abroad"]
    assert [row.state for row in await tasks.sent(deliver)] == ["done", "done", "scheduled", "dead", "pending"]


async def test_inline_tasks_run_what_they_commit_themselves(db: AsyncSession, tasks: Tasks) -> None:
    tasks.mode = "inline"
    enqueue(db, deliver, "home")
    await db.commit()

    assert list(await db.scalars(select(Parcel.place))) == ["home"]


async def test_drain_counts_outcomes_and_advances_time(db: AsyncSession, tasks: Tasks) -> None:
    for place in ("abroad", "nowhere", "at sea", "returned"):
        enqueue(db, deliver, place)

    assert await tasks.drain() == Drained(done=1, scheduled=1, dead=1, cancelled=1)
    assert await tasks.drain(advance=30) == Drained()
    assert await tasks.drain(advance=timedelta(minutes=2)) == Drained(done=1)
    assert await tasks.drain(advance=3600) == Drained(done=1)
    assert list(await db.scalars(select(Parcel.place).order_by(Parcel.id))) == ["abroad", "at sea", "customs"]


async def test_perform_returns_or_raises_what_the_task_does(db: AsyncSession, tasks: Tasks) -> None:
    enqueue(db, deliver, "another")

    assert await tasks.perform(deliver, "home") == 4
    with pytest.raises(LostException):
        await tasks.perform(deliver, place="nowhere")
    with pytest.raises(InvalidArguments, match="place: Input should be a valid string"):
        await tasks.perform(deliver, 7)
    assert list(await db.scalars(select(Parcel.place))) == ["home"]


async def test_assertions_name_what_was_committed(db: AsyncSession, tasks: Tasks) -> None:
    enqueue(db, deliver, "home")

    row = await tasks.assert_sent(deliver, place="home")
    await tasks.assert_not_sent(deliver, place="abroad")
    assert row.queue == "default"
    with pytest.raises(
        AssertionError, match=r"0 such tasks were committed. All tasks: .*deliver\(\{'place': 'home'\}\)"
    ):
        await tasks.assert_sent(deliver, place="abroad")
    with pytest.raises(AssertionError, match=r"Such a task was committed: \[\{'place': 'home'\}\]"):
        await tasks.assert_not_sent("deliver")
