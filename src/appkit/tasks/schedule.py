"""Schedules: cron tasks. Each slot runs once, with any number of processes.

One transaction advances a schedule's row to a slot and writes the task. Only one process can do this for a slot, so no
leader and no scheduler process are needed.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from sqlalchemy import select, update

from appkit.exceptions import AppKitError
from appkit.repository.database import Database
from appkit.repository.enqueueing import add_task, insert_missing
from appkit.repository.outbox import ScheduledTask, TaskPolicy, clock

Misfire = Literal["skip", "once", "all"]
"""How missed slots are handled; see `TaskRouter.cron`."""

GRACE: Final = timedelta(seconds=60)
"""How late a slot may be processed without counting as missed."""

_MAX_SLOTS = 1000  # Missed slots to run in one transaction.
_MAX_WAIT = 60.0  # Seconds until the rows are read again, because somebody may have paused or resumed a schedule.


class Schedule:
    """One task's cron schedule.

    Raises:
        AppKitError: When the cron expression or the time zone is invalid.
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
            raise AppKitError(f"Task {self.name!r} has the unknown time zone {timezone!r}.") from exc
        except CronSimError as exc:
            raise AppKitError(
                f"Task {self.name!r} has an invalid cron expression {cron!r}: {exc}. "
                "Write minute, hour, day, month and weekday, as in '0 3 * * *'."
            ) from exc

    @property
    def name(self) -> str:
        """The task's name."""
        return self.policy.name

    def next(self, after: datetime) -> datetime | None:
        """The first slot after this time; None when the next fifty years have no slot."""
        return next(CronSim(self.cron, after.astimezone(self._zone)), None)

    def due(self, after: datetime, now: datetime) -> list[datetime]:
        """The slots to run between `after` and `now`, the oldest first."""
        if self.misfire == "all":
            slots = CronSim(self.cron, after.astimezone(self._zone))
            return [*islice(takewhile(lambda slot: slot <= now, slots), _MAX_SLOTS)]
        due: list[datetime] = []
        latest = now.astimezone(self._zone).replace(microsecond=max(1, now.microsecond))  # So that `now` is included.
        for slot in takewhile(lambda slot: slot > after, CronSim(self.cron, latest, reverse=True)):
            if slot <= now - GRACE and (due or self.misfire == "skip"):
                break
            due.insert(0, slot)
        return due


class ScheduleRow(NamedTuple):
    """The row of a schedule, with the database's time."""

    schedule: Schedule
    last_slot: datetime
    paused: bool
    now: datetime


class Schedules:
    """The schedules of one broker, with their rows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, Schedule] = {}

    def add(self, schedule: Schedule) -> None:
        """Register a schedule."""
        self._known[schedule.name] = schedule

    async def run(self) -> float:
        """Write the tasks of all due slots, and return the seconds until the next slot."""
        if not self._known:
            return _MAX_WAIT
        rows = await self._read()
        missing = self._known.keys() - {row.schedule.name for row in rows}
        for name in missing:
            await self._create(self._known[name])
        waits = [0.0] if missing else []
        for row in rows:
            if due := row.schedule.due(row.last_slot, row.now):
                await self._advance(row, due)
            next_slot = row.schedule.next(row.now)
            if next_slot is not None:
                waits.append((next_slot - row.now).total_seconds())
        return min([*waits, _MAX_WAIT])

    async def _read(self) -> list[ScheduleRow]:
        rows = select(ScheduledTask.name, ScheduledTask.last_slot, ScheduledTask.paused, clock(0))
        async with self._database.read_session(primary=True) as db:
            found = await db.execute(rows.where(ScheduledTask.name.in_(self._known)))
            return [ScheduleRow(self._known[name], slot, paused, now) for name, slot, paused, now in found]

    async def _create(self, schedule: Schedule) -> None:
        """Write the row of a new schedule. Slots before now don't count as missed."""
        row = {"name": schedule.name, "cron": schedule.cron, "timezone": schedule.timezone, "last_slot": clock(0)}
        async with self._database.session() as db:
            await db.execute(insert_missing(db.sync_session, ScheduledTask, "name", **row))

    async def _advance(self, row: ScheduleRow, due: Sequence[datetime]) -> None:
        """Advance the row to the latest slot and write the tasks, unless another process has done this."""
        schedule = row.schedule
        move = update(ScheduledTask).where(
            ScheduledTask.name == schedule.name,
            ScheduledTask.last_slot == row.last_slot,
            ScheduledTask.paused.is_(row.paused),
        )
        latest = row.now if row.paused else due[-1]
        move = move.values(last_slot=latest, cron=schedule.cron, timezone=schedule.timezone)
        async with self._database.session() as db:
            moved = await db.execute(move.returning(ScheduledTask.name))
            if moved.first() is not None and not row.paused:
                for slot in due:
                    add_task(db, schedule.policy, labels={"slot": slot.astimezone(UTC).isoformat()})
