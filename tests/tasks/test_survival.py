"""Workers that are killed, frozen, stopped or replaced lose no task, and repeat no effect of a `TaskSession`.

`APPKIT_TEST_CRASHES` is the number of crashes. Without it, each test crashes a few workers.
"""

# The fixture `make_app` has no type that tests can import.

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from appkit.tasks.router import Task, enqueue, enqueue_many

CRASHES = int(os.environ.get("APPKIT_TEST_CRASHES", "0"))
LEASE = 1.0
PATIENCE = 600.0 if CRASHES else 60.0

pytestmark = pytest.mark.slow


class Crew:
    """Workers in separate processes, on the test's database."""

    def __init__(self, url: str, program: "subprocess.Popen[str]") -> None:
        self.url = url
        self._program = program
        self.pids: list[int] = []

    def start(self, **spec: Any) -> int:
        spec = {"url": self.url, "lease": LEASE, "poll_interval": 0.1, "max_attempts": 1000, **spec}
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(spec) + "\n")
        self._program.stdin.flush()
        self.pids.append(pid := int(self._program.stdout.readline()))
        return pid

    def kill(self, *pids: int, how: int = signal.SIGKILL) -> None:
        for pid in pids or self.pids:
            if is_alive(pid):
                os.kill(pid, how)

    async def gone(self, pid: int, timeout: float = PATIENCE) -> None:
        end = monotonic() + timeout
        while is_alive(pid):
            assert monotonic() < end, f"Process {pid} should be gone by now."
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def crew(database_url: str) -> Iterator[Crew]:
    command = [sys.executable, str(Path(__file__).parent / "worker_program.py")]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with program:
        crew = Crew(database_url, program)
        yield crew
        crew.kill()
        assert program.stdin is not None
        program.stdin.close()


@pytest.fixture
def declared(app: Any) -> dict[str, Task[..., Any]]:
    """The workers' tasks, for enqueueing."""

    async def with_number(number: int) -> None: ...

    async def with_seconds(seconds: float) -> None: ...

    async def with_nothing() -> None: ...

    async def with_key(key: str, number: int) -> None: ...

    router = app.router
    functions: dict[str, Callable[..., Awaitable[None]]] = {
        "exactly": with_number,
        "plain": with_number,
        "sleeper": with_seconds,
        "spinner": with_seconds,
        "poison": with_nothing,
    }
    tasks = {name: router.task(name=name)(function) for name, function in functions.items()}
    return tasks | {"ordered": router.task(name="ordered", ordering_key=lambda key, _: key)(with_key)}


async def enqueue_both(app: Any, declared: dict[str, Task[..., Any]], numbers: range) -> None:
    async with app.session() as db:
        for name in ("exactly", "plain"):
            await enqueue_many(db, declared[name], [(number,) for number in numbers])


def assert_done(rows: list[Any]) -> None:
    assert {row.state for row in rows} == {"done"}


@pytest.mark.parametrize(
    "point", ["after_claim", "mid_task", "after_task_before_finish", "mid_finish_batch", "during_rescue"]
)
async def test_worker_that_dies_at_any_point_loses_and_doubles_nothing(app, crew, declared, point):
    times = CRASHES or 2
    for number in range(times):
        await enqueue_both(app, declared, range(4 * number, 4 * number + 4))
        if point == "during_rescue":  # This worker leaves a task to rescue.
            await crew.gone(crew.start(crash_at="after_claim"))
        await crew.gone(crew.start(crash_at=point))
    crew.start()
    assert_done(await app.settled(PATIENCE))

    effects = Counter(await app.effects())
    assert {number: effects[f"exactly {number}"] for number in range(4 * times)} == dict.fromkeys(range(4 * times), 1)
    assert all(effects[f"plain {number}"] >= 1 for number in range(4 * times))
    assert sum(effects.values()) - 8 * times <= 10 * len(crew.pids)  # Each death repeats the tasks of one worker.


@pytest.mark.parametrize(("point", "outcome"), [("after_insert", 0), ("after_commit", 1)])
async def test_producer_that_dies_has_written_all_or_nothing(app, crew, point, outcome):
    times = CRASHES or 2
    for number in range(times):
        await crew.gone(crew.start(crash_at=point, produce=["exactly", [number]]))
    crew.start()
    await asyncio.sleep(0.3)
    rows = await app.settled(PATIENCE)

    assert len(rows) == outcome * times
    effects = Counter(await app.effects())
    assert (
        effects
        == Counter({f"{what} {n}": outcome for what in ("ordered", "exactly") for n in range(times)}) + Counter()
    )


@pytest.mark.parametrize("point", ["after_mark_before_publish", "after_publish"])
async def test_publisher_that_dies_leaves_no_task_behind(app, crew, declared, redis_broker, point):
    times = CRASHES or 2
    for number in range(times):
        await enqueue_both(app, declared, range(4 * number, 4 * number + 4))
        await crew.gone(crew.start(crash_at=point, work=False, broker_url=redis_broker))
    assert {row.state for row in await app.rows()} == {"published"}
    crew.start(broker_url=redis_broker)
    assert_done(await app.settled(PATIENCE))

    names = [f"{what} {number}" for what in ("exactly", "plain") for number in range(4 * times)]
    assert Counter(await app.effects()) == dict.fromkeys(names, 1)


async def test_three_workers_run_each_task_once(app, crew, declared):
    count = 6000 if CRASHES else 300
    async with app.session() as db:
        await enqueue_many(db, declared["plain"], [(number,) for number in range(count)])
    for _ in range(3):
        crew.start(lease=60)
    assert_done(await app.settled(PATIENCE))

    assert Counter(await app.effects()) == Counter({f"plain {number}": 1 for number in range(count)})


async def test_poison_ends_and_holds_up_nobody(app, crew, declared):
    async with app.session() as db:
        enqueue(db, declared["poison"])
        await enqueue_many(db, declared["plain"], [(number,) for number in range(50)])
    for _ in range(3):
        await crew.gone(crew.start(max_attempts=3, lease=4))
    crew.start(max_attempts=3, lease=4)
    await app.settled(PATIENCE)
    rows = {row.task_name: row for row in await app.rows()}

    effects = Counter(await app.effects())
    assert (rows["poison"].state, rows["poison"].attempts, rows["poison"].error_code) == ("dead", 3, "TASK_LOST")
    assert [name for name in effects if name.startswith("poison")] == ["poison 1", "poison 2", "poison 3"]
    assert sum(name.startswith("plain") for name in effects) == 50


@pytest.mark.parametrize("name", ["sleeper", "spinner"])
async def test_task_that_blocks_the_event_loop_runs_once(app, crew, declared, name):
    lease = 3.0 if CRASHES else LEASE
    async with app.session() as db:
        enqueue(db, declared[name], 2.7 * lease)
    for _ in range(2):
        crew.start(lease=lease)
    assert_done(await app.settled(PATIENCE))

    assert sorted(await app.effects()) == sorted(["started 1", name])


async def test_frozen_worker_is_too_late(app, crew, declared):
    async with app.session() as db:
        enqueue(db, declared["sleeper"], 3 * LEASE)  # Enough time to freeze the worker.
    frozen = crew.start()
    # A worker that is frozen during a write would keep SQLite's lock.
    while await app.effects() != ["started 1"]:  # noqa: ASYNC110 - the database has no event to wait for
        await asyncio.sleep(0.02)
    crew.kill(frozen, how=signal.SIGSTOP)
    crew.start(lease=60)
    rows = await app.until(lambda rows: rows[0].state == "done", PATIENCE)
    crew.kill(frozen, how=signal.SIGCONT)
    await asyncio.sleep(LEASE)

    assert rows[0].attempts == 2
    assert (await app.effects()).count("sleeper") == 1


async def test_deploys_interrupt_nothing(app, crew, declared):
    times = min(CRASHES, 20) or 3
    for number in range(times):
        await enqueue_both(app, declared, range(40 * number, 40 * number + 40))
        worker = crew.start(lease=60, shutdown_grace=20)
        await app.until(lambda rows: sum(row.state == "done" for row in rows) > 80 * number + 4)  # noqa: B023 - the lambda is used only in this iteration
        crew.kill(worker, how=signal.SIGTERM)
        await crew.gone(worker)
        assert "running" not in {row.state for row in await app.rows()}
    crew.start(lease=60)
    rows = await app.settled(PATIENCE)

    assert_done(rows)
    assert {row.attempts for row in rows} == {1}
    assert set(Counter(await app.effects()).values()) == {1}


async def test_ordered_tasks_run_one_after_the_other_whoever_dies(app, crew, declared):
    keys, count = (8, 50) if CRASHES else (3, 8)
    async with app.session() as db:
        calls = [(f"key{key}", number) for number in range(count) for key in range(keys)]
        await enqueue_many(db, declared["ordered"], calls)
    for _ in range(min(CRASHES, 10) or 2):
        first, second = crew.start(), crew.start()
        await asyncio.sleep(0.4)
        crew.kill(first, second)
    crew.start()
    crew.start()
    assert_done(await app.settled(PATIENCE))

    effects = await app.effects()
    for key in {name for name, _ in calls}:
        mine = [effect.split() for effect in effects if effect.split()[1] == key]
        ended = [int(number) for what, _, number in mine if what == "end"]
        assert ended == list(range(count))
        position = -1  # The last task that ended. Only the next task may begin, and it may begin repeatedly.
        for what, _, number in mine:
            assert int(number) == position + 1, mine
            position += what == "end"


async def test_old_worker_leaves_new_tasks_to_new_ones(app, crew, declared):
    old = crew.start(names=["plain"])
    await enqueue_both(app, declared, range(5))
    rows = await app.until(lambda rows: sum(row.state == "done" for row in rows) == 5, PATIENCE)
    assert {row.task_name for row in rows if row.state == "pending"} == {"exactly"}
    crew.start()
    assert_done(await app.settled(PATIENCE))
    crew.kill(old)

    assert set(Counter(await app.effects()).values()) == {1}
