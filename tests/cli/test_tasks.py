"""`appkit tasks`, and `appkit worker --check`."""

import json
import os
import time
from pathlib import Path

import pytest

from appkit.cli.server import LivenessFile
from appkit.core.settings import Settings

APP = """
import anyio
from appkit import AppKit
from appkit.repository.outbox import OutboxTask

kit = AppKit(discover=False)


async def fill() -> None:
    async with kit.lifespan(work=False), kit.session() as db:
        for number, state in enumerate(["dead", "dead", "done", "pending"]):
            name, payload = f"jobs:work{number % 2}", {"labels": {}}
            row = OutboxTask(task_id=f"t{number}", task_name=name, state=state, payload=payload)
            row.last_error = "ValueError: no" if state == "dead" else None
            row.finished_at = None if state == "pending" else row.created_at
            db.add(row)


if __name__ == "__main__":
    anyio.run(fill)
"""


@pytest.fixture
def jobs(folder: Path, appkit, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENVIRONMENT", "test")
    monkeypatch.setenv("LOGGING_LEVEL", "ERROR")
    (folder / "jobs.py").write_text(APP)
    exec(compile(APP, "jobs.py", "exec"), {"__name__": "__main__"})
    return lambda *arguments: appkit("tasks", *arguments, "--kit", "jobs.py")


def test_tasks_are_listed_shown_retried_cancelled_counted_and_pruned(jobs):
    def ids(*arguments: str) -> list[str]:
        return [task["task_id"] for task in json.loads(jobs(*arguments, "--json")[1])]

    assert ids("list") == ["t3", "t2", "t1", "t0"]
    assert ids("list", "--state", "done", "--queue", "default", "--name", "jobs:work0") == ["t2"]
    assert ids("dead") == ["t1", "t0"]
    assert "ValueError: no" in jobs("dead")[1]
    assert "jobs:work0" in jobs("show", "t0")[1]
    assert ids("show", "t0") == ["t0"]

    assert jobs("retry", "t0")[:2] == (0, "t0 runs again.\n")
    assert jobs("retry", "--all")[:2] == (0, "1 tasks run again.\n")
    assert ids("dead") == []
    assert jobs("retry", "t2")[0] == 1
    assert jobs("cancel", "t3")[:2] == (0, "t3 is cancelled.\n")
    assert jobs("cancel", "unknown")[0] == 1

    (figures,) = json.loads(jobs("stats", "--json")[1])
    assert figures["depth"] == {"default": {"cancelled": 1, "done": 1, "pending": 2}}
    assert "OLDEST_PENDING" in jobs("stats")[1]
    assert jobs("prune", "--days", "1")[:2] == (0, "0 tasks deleted.\n")
    assert jobs("prune", "--state", "cancelled")[:2] == (0, "1 tasks deleted.\n")
    assert jobs("prune", "--state", "pending")[0] == 1


@pytest.mark.parametrize("arguments", [["retry"], ["retry", "t0", "--all"]])
def test_retry_needs_a_task_id_or_all(jobs, arguments):
    code, _, said = jobs(*arguments)
    assert (code, "or --all" in said) == (2, True)


def test_worker_check_reads_the_last_heartbeat(jobs, appkit, folder: Path):
    assert appkit("worker", "jobs.py", "--check") == (
        1,
        "",
        "No worker runs in this directory. Start one: appkit worker\n",
    )

    liveness = LivenessFile(Settings(_env_file=None))
    liveness._path.touch()
    assert appkit("worker", "jobs.py", "--check")[:2] == (0, "The worker is healthy.\n")
    old = time.time() - 100
    os.utime(liveness._path, (old, old))
    code, _, said = appkit("worker", "jobs.py", "--check")
    assert (code, any(f"heartbeat was {seconds} s ago" in said for seconds in range(100, 160))) == (1, True)
    liveness.remove()


async def test_liveness_file_is_touched_while_the_worker_is_healthy(folder: Path):
    import anyio

    liveness = LivenessFile(Settings(_env_file=None))
    healthy = [False]
    async with anyio.create_task_group() as group:
        liveness._interval = 0.01
        group.start_soon(liveness.keep_touching, lambda: healthy[0])
        await anyio.sleep(0.05)
        assert liveness.problem() is not None
        healthy[0] = True
        with anyio.fail_after(60):
            while liveness.problem() is not None:  # noqa: ASYNC110 - a file has no event to wait for
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    liveness.remove()
    assert liveness.problem() is not None
