"""TaskRouter: declaring and naming tasks, and enqueueing tasks with `kiq()`."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

import subprocess
import sys
from pathlib import Path

import pytest

from appkit.domain.events import Event
from appkit.exceptions import AppKitError
from appkit.tasks.broker import register_tasks
from appkit.tasks.router import TaskRouter, enqueue, task_name

JOBS = """
from appkit.tasks.router import TaskRouter

router = TaskRouter()

@router.task
async def fetch_title() -> None: ...

class Jobs:
    @staticmethod
    @router.task
    def sweep() -> None: ...

print(*(task.name for task in router.tasks))
"""


@pytest.mark.parametrize(
    ("directory", "command"),
    [
        ("app", ["-m", "app.jobs"]),
        ("app", ["-c", "import app.jobs"]),
        (".", ["app/jobs.py"]),
        (".", ["-c", "import sys; sys.path.insert(0, 'app'); import jobs"]),
    ],
)
def test_name_is_the_same_however_the_process_was_started(tmp_path: Path, directory: str, command: list[str]) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    (tmp_path / "app" / "jobs.py").write_text(JOBS)

    answer = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert answer.stdout == "jobs:fetch_title jobs:Jobs.sweep\n"


def test_router_imports_no_taskiq() -> None:
    code = "import sys, appkit.tasks.router; print({'taskiq', 'fastapi', 'aiohttp'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout == "set()\n"


async def test_task_is_still_a_function(app):
    @app.router.task(max_attempts=2)
    async def double(number: int) -> int:
        """Twice the number."""
        return number * 2

    assert await double(4) == 8
    assert (double.__name__, double.__doc__) == ("double", "Twice the number.")
    assert (double.policy.max_attempts, double.policy.timeout) == (2, None)


async def test_registering_leaves_the_function_alone(app):
    """Taskiq's own decorator renames the function, and adds the new name to the module."""

    def work() -> None: ...

    app.router.task(work)
    app.broker()
    app.broker()

    assert work.__name__ == "work"
    assert task_name(work).endswith(":test_registering_leaves_the_function_alone.<locals>.work")
    assert "work__taskiq_original" not in globals()


async def test_two_tasks_with_one_name_are_refused(app):
    app.router.task(name="same")(lambda: None)
    app.router.task(name="same")(lambda: None)

    with pytest.raises(AppKitError, match=r"Two tasks are named 'same'.* Pass name= to one of them"):
        app.broker()


async def test_router_may_be_given_twice(app):
    @app.router.task
    async def work() -> None: ...

    broker = app.broker()
    register_tasks(broker, [app.router, app.router])

    assert list(broker.local_task_registry) == [work.name]


def test_thread_has_no_timeout() -> None:
    with pytest.raises(AppKitError, match="a thread can't be stopped"):

        @TaskRouter().task(timeout=3)
        def work() -> None: ...


def test_event_of_another_class_is_not_delivered() -> None:
    class Happened(Event): ...

    class HappenedTwice(Happened): ...

    router = TaskRouter()
    task = router.on(Happened, max_attempts=1)(lambda _: None)

    assert router.policies(Happened) == [task.policy]
    assert router.policies(HappenedTwice) == []


async def test_kiq_writes_a_row_of_its_own(app):
    ran = []

    @app.router.task
    async def work(number: int) -> None:
        ran.append(number)

    broker = app.broker()
    handle = await work.kiq(3)
    (row,) = await app.rows()
    async with app.working(broker):
        await app.settled()

    assert (row.task_id, row.state) == (handle.task_id, "pending")
    assert ran == [3]


async def test_kiq_of_a_task_that_two_kits_have_asks_which(app, make_app):
    @app.router.task
    async def work() -> None: ...

    with pytest.raises(AppKitError, match="No kit has"):
        await work.kiq()
    brokers = [app.broker(), (await make_app()).broker()]
    register_tasks(brokers[1], [app.router])
    with pytest.raises(AppKitError, match=r"Several kits have.* Use enqueue\(db, task, …\)"):
        await work.kiq()

    async with app.session() as db:
        enqueue(db, work)
    assert len(await app.rows()) == 1


async def test_two_kits_share_a_router_and_nothing_else(app, tmp_path):
    other = type(app)(f"sqlite+aiosqlite:///{tmp_path / 'other.db'}")
    await other.create_tables()
    other.router = app.router
    ran = []

    @app.router.task
    async def work(whose: str) -> None:
        ran.append(whose)

    async with app.working(), other.working():
        async with app.session() as db:
            enqueue(db, work, "app's")
        async with other.session() as db:
            enqueue(db, work, "other's")
        (mine,), (theirs,) = await app.settled(), await other.settled()
    await other.database.dispose()

    assert sorted(ran) == ["app's", "other's"]
    assert (mine.payload["kwargs"], mine.payload["args"]) == ({}, ["app's"])
    assert theirs.payload["args"] == ["other's"]


async def test_kiq_in_an_open_session_joins_its_transaction(app):
    ran = []

    @app.router.task
    async def work(number: int) -> None:
        ran.append(number)

    broker = app.broker()
    async with app.session() as db:
        await app.effect(db, "undone")
        await work.kiq(1)
        await db.rollback()
    assert await app.rows() == []

    async with app.working(broker):
        async with app.session() as db:
            await app.effect(db, "done")
            await work.kiq(2)
            assert await app.rows() == []
        await app.settled()
    assert ran == [2]
