"""Schedules: each slot runs once."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from appkit.exceptions import AppKitError, NotFoundException
from appkit.repository.outbox import ScheduledTask, TaskPolicy
from appkit.service.tasks import TaskService
from appkit.tasks.context import TaskContext
from appkit.tasks.router import TaskRouter
from appkit.tasks.schedule import Misfire, Schedule

SECONDS = int(os.environ.get("APPKIT_TEST_CRON_SECONDS", "4"))
POLICY = TaskPolicy(name="jobs:nightly")
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def hours(*values: float) -> list[datetime]:
    return [NOON + timedelta(hours=value) for value in values]


@pytest.mark.parametrize(
    ("misfire", "away", "expected"),
    [
        ("skip", timedelta(hours=3, minutes=10), []),
        ("once", timedelta(hours=3, minutes=10), hours(3)),
        ("all", timedelta(hours=3, minutes=10), hours(1, 2, 3)),
        ("skip", timedelta(hours=3, seconds=20), hours(3)),
        ("once", timedelta(hours=3, seconds=20), hours(3)),
        ("all", timedelta(minutes=59), []),
        ("once", timedelta(minutes=59), []),
        ("once", timedelta(hours=1), hours(1)),
    ],
)
def test_missed_slots_run_by_misfire_policy(misfire: Misfire, away: timedelta, expected: list[datetime]):
    schedule = Schedule(POLICY, "0 * * * *", misfire=misfire)

    assert schedule.due(NOON, NOON + away) == expected


def test_slots_follow_the_clock_on_the_wall():
    schedule = Schedule(POLICY, "30 2 * * *", "Europe/Zurich", "all")
    spring = schedule.due(datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC))
    autumn = schedule.due(datetime(2026, 10, 24, tzinfo=UTC), datetime(2026, 10, 27, tzinfo=UTC))

    assert len(spring) == len(autumn) == 3  # One night has no 02:30, and another night has two.
    assert [slot.astimezone(UTC).hour for slot in spring] == [1, 1, 0]


def test_missed_years_run_in_batches():
    schedule = Schedule(POLICY, "* * * * *", misfire="all")

    assert len(schedule.due(NOON, NOON + timedelta(days=400))) == 1000


@pytest.mark.parametrize(
    ("cron", "timezone", "message"),
    [
        ("0 25 * * *", "UTC", r"invalid cron expression '0 25 \* \* \*': Bad hour"),
        ("nightly", "UTC", "Write minute, hour, day, month and weekday"),
        ("0 3 * * *", "Europe/Atlantis", "time zone 'Europe/Atlantis'"),
        ("0 3 * * *", "../secret", "time zone"),
    ],
)
def test_invalid_schedule_is_refused_when_declared(cron: str, timezone: str, message: str):
    with pytest.raises(AppKitError, match=message):

        @TaskRouter().cron(cron, timezone=timezone)
        async def nightly() -> None: ...


async def test_scheduled_task_takes_no_arguments(app):
    @app.router.cron("0 3 * * *")
    async def nightly(number: int) -> None: ...

    with pytest.raises(AppKitError, match="missing a required argument: 'number'"):
        app.broker()


async def test_each_slot_runs_once_however_many_instances_there_are(make_app, monkeypatch):
    """The clocks of the processes may differ, because only the database's clock is used."""
    apps = [await make_app() for _ in range(3)]
    slots: list[datetime | None] = []

    @apps[0].router.cron("* * * * * *", name="jobs:each-second")
    async def tick(ctx: TaskContext) -> None:
        slots.append(ctx.slot)

    schedules = apps[0].broker().schedules
    await schedules.run()
    async with apps[0].session() as db:  # Four slots are due.
        (await db.get_one(ScheduledTask, "jobs:each-second")).last_slot -= timedelta(seconds=4)
    async with AsyncExitStack() as stack:
        for number, app in enumerate(apps):
            app.router = apps[0].router
            await stack.enter_async_context(app.working())
            skewed = datetime.now(UTC) + (number - 1) * timedelta(seconds=2)
            monkeypatch.setattr("appkit.repository.enqueueing.utcnow", lambda skewed=skewed: skewed)
        await apps[0].until(lambda rows: len(rows) >= SECONDS, SECONDS + 30)
    rows = await apps[0].rows()
    async with apps[0].session() as db:
        schedule = await db.get_one(ScheduledTask, "jobs:each-second")

    expected = [row.payload["labels"]["slot"] for row in rows]
    assert len(set(expected)) == len(expected)
    times = sorted(map(datetime.fromisoformat, expected))
    assert times == [times[0] + timedelta(seconds=number) for number in range(len(times))]
    assert times[-1] == schedule.last_slot
    assert {*slots} <= {*times}


async def test_concurrent_claims_of_a_slot_write_one_task(app):
    router: Any = app.router

    @router.cron("0 3 * * *", misfire="once")
    async def nightly() -> None: ...

    brokers = [app.broker() for _ in range(6)]
    await brokers[0].schedules.run()
    async with app.session() as db:
        await db.execute(update(ScheduledTask).values(last_slot=datetime(2026, 1, 1, tzinfo=UTC)))
    await asyncio.gather(*(broker.schedules.run() for broker in brokers))
    await asyncio.gather(*(broker.schedules.run() for broker in brokers))

    assert len(await app.rows()) == 1


async def test_new_schedule_has_no_missed_slots(app):
    @app.router.cron("* * * * *", misfire="all")
    async def often() -> None: ...

    began = datetime.now(UTC)
    schedules = app.broker().schedules
    waits = [await schedules.run(), await schedules.run()]

    slots = [datetime.fromisoformat(row.payload["labels"]["slot"]) for row in await app.rows()]
    assert all(slot > began for slot in slots)  # A new minute may begin during the test.
    assert waits[0] == 0
    assert 0 < waits[1] <= 60


async def test_paused_schedule_writes_nothing_and_has_no_missed_slots(app):
    @app.router.cron("* * * * *", misfire="all", name="jobs:paused")
    async def often() -> None: ...

    schedules = app.broker().schedules
    await schedules.run()
    async with app.session() as db:
        await TaskService(db).pause("jobs:paused")
        with pytest.raises(NotFoundException):
            await TaskService(db).pause("jobs:unheard-of")
        await db.execute(update(ScheduledTask).values(last_slot=datetime(2026, 11, 1, tzinfo=UTC)))
    for _ in range(3):
        await schedules.run()
    async with app.session() as db:
        (row,) = await TaskService(db).schedules()
        assert row.paused
        await TaskService(db).pause("jobs:paused", paused=False)
    await schedules.run()

    assert len(await app.rows()) <= 1  # A new minute may begin during the test.
