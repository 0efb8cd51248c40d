"""Schedules: tasks that run at certain times, each time once, however many instances there are.

Whoever moves a schedule's row on to a slot writes the task, in the same transaction; nobody else can move it there.
So there is no leader, and no process for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.exceptions import AppKitError
from appkit.repository.database import Database
from appkit.repository.enqueueing import add_task, insert_missing
from appkit.repository.outbox import ScheduledTask, TaskPolicy, clock

Misfire = Literal["skip", "once", "all"]
"""What to do about slots that nobody was there for."""

GRACE: Final = timedelta(seconds=60)
"""How late a slot may be looked at without having been missed."""

_AT_ONCE = 1000  # Slots that are made up for in one transaction.
_LONGEST_WAIT = 60.0  # Seconds after which the row is read again, for somebody may have changed it.


class Schedule:
    """When a task runs.

    Args:
        policy: The task's.
        cron: When, as in crontab(5), or with a field for seconds in front.
        timezone: Whose clock is meant.
        misfire: What to do about slots that nobody was there for.

    Raises:
        AppKitError: When the expression or the time zone makes no sense.
    """

    def __init__(self, policy: TaskPolicy, cron: str, timezone: str = "UTC", misfire: Misfire = "once") -> None:
        self.policy = policy
        self.cron = cron
        self.timezone = timezone
        self.misfire = misfire
        try:
            self._zone = ZoneInfo(timezone)
            self.next(datetime.now(UTC))
        except (ZoneInfoNotFoundError, ValueError) as exc:
            raise AppKitError(f"Task {self.name!r} has the time zone {timezone!r}, which there is not.") from exc
        except CronSimError as exc:
            raise AppKitError(
                f"Task {self.name!r} is to run at {cron!r}, which is no cron expression: {exc}. "
                "Write minute, hour, day, month and weekday, as in '0 3 * * *'."
            ) from exc

    @property
    def name(self) -> str:
        """The task's name."""
        return self.policy.name

    def next(self, after: datetime) -> datetime | None:
        """The first slot after this moment; None when there is none in the next fifty years."""
        return next(CronSim(self.cron, after.astimezone(self._zone)), None)

    def due(self, after: datetime, now: datetime) -> list[datetime]:
        """The slots to run that have come since, oldest first."""
        if self.misfire == "all":
            slots = CronSim(self.cron, after.astimezone(self._zone))
            return [*islice(takewhile(lambda slot: slot <= now, slots), _AT_ONCE)]
        due: list[datetime] = []
        latest = now.astimezone(self._zone).replace(microsecond=max(1, now.microsecond))  # Else `now` is left out.
        for slot in takewhile(lambda slot: slot > after, CronSim(self.cron, latest, reverse=True)):
            if slot <= now - GRACE and (due or self.misfire == "skip"):
                break
            due.insert(0, slot)
        return due


@dataclass(frozen=True)
class Slots:
    """What has come of one schedule since it was last looked at."""

    schedule: Schedule
    seen: datetime
    paused: bool
    now: datetime

    @property
    def due(self) -> list[datetime]:
        """The slots to run."""
        return self.schedule.due(self.seen, self.now)


class Schedules:
    """The schedules of one broker, and their rows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, Schedule] = {}

    def add(self, schedule: Schedule) -> None:
        """Make a schedule known."""
        self._known[schedule.name] = schedule

    async def run(self) -> float:
        """Write the tasks whose time has come, and return the seconds until the next."""
        if not self._known:
            return _LONGEST_WAIT
        found = await self._look()
        missing = self._known.keys() - {slots.schedule.name for slots in found}
        for name in missing:
            await self._begin(self._known[name])
        waits = [0.0] if missing else []
        for slots in found:
            if slots.due:
                await self._move(slots)
            next_slot = slots.schedule.next(slots.now)
            if next_slot is not None:
                waits.append((next_slot - slots.now).total_seconds())
        return min([*waits, _LONGEST_WAIT])

    async def rows(self) -> Sequence[ScheduledTask]:
        """All rows, those of other versions of the app too."""
        async with self._database.read_session(primary=True) as db:
            return (await db.scalars(select(ScheduledTask).order_by(ScheduledTask.name))).all()

    async def pause(self, name: str, *, paused: bool = True) -> bool:
        """Run it no more, or again from the next slot on; False when there is no schedule of this name."""
        statement = update(ScheduledTask).where(ScheduledTask.name == name).values(paused=paused)
        async with self._database.session() as db:
            return (await db.execute(statement.returning(ScheduledTask.name))).first() is not None

    async def _look(self) -> list[Slots]:
        rows = select(ScheduledTask.name, ScheduledTask.last_slot, ScheduledTask.paused, clock(0))
        async with self._database.read_session(primary=True) as db:
            found = await db.execute(rows.where(ScheduledTask.name.in_(self._known)))
            return [Slots(self._known[name], seen, paused, now) for name, seen, paused, now in found]

    async def _begin(self, schedule: Schedule) -> None:
        """Make the row of a schedule that is new: what was before it doesn't count."""
        row = {"name": schedule.name, "cron": schedule.cron, "timezone": schedule.timezone, "last_slot": clock(0)}
        async with self._database.session() as db:
            await db.execute(insert_missing(db.sync_session, ScheduledTask, "name", **row))

    async def _move(self, slots: Slots) -> None:
        """Move the row on to the latest slot, and write the tasks; unless somebody else did that."""
        due, schedule = slots.due, slots.schedule
        move = update(ScheduledTask).where(
            ScheduledTask.name == schedule.name,
            ScheduledTask.last_slot == slots.seen,
            ScheduledTask.paused.is_(slots.paused),
        )
        latest = slots.now if slots.paused else due[-1]
        move = move.values(last_slot=latest, cron=schedule.cron, timezone=schedule.timezone)
        async with self._database.session() as db:
            moved = await db.execute(move.returning(ScheduledTask.name))
            if moved.first() is not None and not slots.paused:
                self._write(db, schedule, due)

    def _write(self, db: AsyncSession, schedule: Schedule, due: Sequence[datetime]) -> None:
        for slot in due:
            labels: dict[str, Any] = {"slot": slot.astimezone(UTC).isoformat()}
            add_task(db, schedule.policy, labels=labels)
