"""The workers that `test_survival.py` kills, stops and freezes. Each line of stdin has the options of one worker.

This program forks the workers, so that no worker has to import the modules.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sqlalchemy import event

from appkit.repository.queue import TaskQueue
from appkit.tasks.context import TaskContext, TaskSession
from appkit.tasks.inflight import InFlightTasks
from appkit.tasks.maintenance import Maintenance
from appkit.tasks.publisher import PublishingBroker
from appkit.tasks.router import TaskRouter, enqueue
from appkit.tasks.worker import Worker
from tests.tasks.conftest import App


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Program:
    """One process with an app and its tasks."""

    def __init__(
        self, url: str, crash_at: str = "", names: list[str] | None = None, *, work: bool = True, **tasks: Any
    ) -> None:
        self.app = App(url, pool_size=3, **tasks)  # The server accepts a hundred connections for all processes.
        self.works = work
        self.crash_at = crash_at
        self.declare(self.app.router, names or ["exactly", "plain", "poison", "sleeper", "spinner", "ordered"])

    def declare(self, router: TaskRouter, names: list[str]) -> None:
        for name in names:
            router.task(name=name)(getattr(self, name))

    async def note(self, name: str) -> None:
        async with self.app.session() as db:
            await self.app.effect(db, name)

    async def exactly(self, number: int, db: TaskSession) -> None:
        await self.app.effect(db, f"exactly {number}")
        if self.crash_at == "mid_task":
            die()
        await asyncio.sleep(0.001 * (number % 5))

    async def plain(self, number: int) -> None:
        await self.note(f"plain {number}")

    async def poison(self, ctx: TaskContext) -> None:
        await self.note(f"poison {ctx.attempt}")
        os._exit(1)

    async def sleeper(self, seconds: float, db: TaskSession, ctx: TaskContext) -> None:
        await self.note(f"started {ctx.attempt}")
        time.sleep(seconds)  # noqa: ASYNC251 - the test needs a blocked event loop
        await self.app.effect(db, "sleeper")

    async def spinner(self, seconds: float, db: TaskSession, ctx: TaskContext) -> None:
        await self.note(f"started {ctx.attempt}")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        await self.app.effect(db, "spinner")

    async def ordered(self, key: str, number: int, db: TaskSession) -> None:
        await self.note(f"begin {key} {number}")
        await asyncio.sleep(0.002)
        await self.app.effect(db, f"end {key} {number}")

    async def work(self) -> None:
        self.arm()
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with Worker(self.app.broker(), work=self.works):
            await stop.wait()
        await self.app.database.dispose()

    async def produce(self, task: str, numbers: list[int]) -> None:
        """Write tasks, and die at the point `crash_at`."""
        declared = {each.name: each for each in self.app.router.tasks}
        async with self.app.session() as db:
            for number in numbers:
                await self.app.effect(db, f"ordered {number}")
                enqueue(db, declared[task], number)
            await db.flush()
            if self.crash_at == "after_insert":
                die()
        die()

    def arm(self) -> None:
        """Make the process die at the point `crash_at`."""
        match self.crash_at:
            case "after_claim":
                exchange = TaskQueue.exchange

                async def claim_and_die(queue: TaskQueue, *args: Any, **options: Any) -> Any:
                    finished, claimed = await exchange(queue, *args, **options)
                    return die() if claimed else (finished, claimed)

                TaskQueue.exchange = claim_and_die  # type: ignore[method-assign, assignment] # what the test is about
            case "after_task_before_finish":
                InFlightTasks.settle = die  # type: ignore[assignment, method-assign] # what the test is about
            case "mid_finish_batch":
                self.die_before_the_commit_after(TaskQueue, "_finish")
                exchange_at_once = TaskQueue._exchange_at_once

                def exchange_and_die(*args: Any) -> Any:
                    asyncio.get_running_loop().call_later(random.uniform(0, 0.002), die)
                    return exchange_at_once(*args)

                TaskQueue._exchange_at_once = exchange_and_die  # type: ignore[method-assign, assignment] # as above
            case "after_mark_before_publish":
                PublishingBroker._send = die  # type: ignore[assignment, method-assign] # what the test is about
            case "after_publish":
                send = PublishingBroker._send

                async def send_and_die(*args: Any) -> None:
                    await send(*args)
                    die()

                PublishingBroker._send = send_and_die  # type: ignore[assignment, method-assign] # as above
            case "during_rescue":
                self.die_before_the_commit_after(Maintenance, "_rescue")

    def die_before_the_commit_after(self, what: type, name: str) -> None:
        original = getattr(what, name)

        def arm(*args: Any) -> Any:
            event.listen(self.app.database.engine.sync_engine, "commit", die)
            return original(*args)

        setattr(what, name, arm)


async def main(spec: dict[str, Any]) -> None:
    produce = spec.pop("produce", None)
    program = Program(**spec)
    await (program.produce(*produce) if produce else program.work())


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Ended processes leave no zombies.
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            asyncio.run(main(json.loads(line)))
            os._exit(0)
        print(pid, flush=True)  # noqa: T201 - the test reads it
