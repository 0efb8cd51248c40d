"""Chores: what some process has to see to now and then, and any of them does. There is no leader."""

import logging
from time import monotonic
from typing import TYPE_CHECKING

from appkit.repository.upkeep import CLEANUP, Look

if TYPE_CHECKING:
    from appkit.tasks.broker import OutboxBroker

logger = logging.getLogger(__name__)


class Chores:
    """Those of one broker: late tasks, schedules, old rows, and rows that nobody knows what to do with.

    Args:
        broker: Whose they are.
    """

    def __init__(self, broker: "OutboxBroker") -> None:
        self._broker = broker
        self._next_look = self._next_slot = self._next_clean = self._next_report = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to look, whatever else there is to do."""
        return monotonic() >= min(self._next_look, self._next_slot)

    async def run(self) -> Look:
        """See to what there is, and say what there is to do then."""
        broker, now = self._broker, monotonic()
        look = await broker.upkeep.look(broker.get_all_tasks())
        if look.overdue:
            for task in await broker.upkeep.tick(broker.leases.ids):
                logger.warning("Task %s %s is %s: whoever ran it died, or stopped answering.", *task)
        ready = look.ready or look.overdue or now >= self._next_slot
        if now >= self._next_slot:
            self._next_slot = now + await broker.schedules.run()
        if now >= self._next_clean:
            deleted = await broker.upkeep.clean()
            self._next_clean = now + (0 if deleted == CLEANUP else 60)
        if now >= self._next_report:
            await self._report()
            self._next_report = now + 600
        self._next_look = now + broker.interval
        until_slot = max(0.0, self._next_slot - monotonic())
        return look._replace(ready=ready, wait=until_slot if look.wait is None else min(look.wait, until_slot))

    async def _report(self) -> None:
        for name, count in (await self._broker.upkeep.unknown(self._broker.get_all_tasks())).items():
            logger.warning(
                "%d tasks wait for %r, which this process doesn't know. Was it renamed, or is its module not imported?",
                count,
                name,
            )
