import asyncio
import gc
import importlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appkit.core.settings import Settings
from appkit.core.watchdog import LIMIT, _Monitor, watch_loop
from appkit.kit import AppKit


def block() -> None:
    time.sleep(0.3)


def block_until(found: Callable[[], object]) -> None:
    """Block the loop until the watchdog has noticed. On a busy machine, its thread may be late."""
    end = time.monotonic() + 60
    while not found() and time.monotonic() < end:  # blocked here
        time.sleep(0.02)  # blocked here


async def test_watch_loop_names_the_blocking_line() -> None:
    with watch_loop(asyncio.get_running_loop()) as found:
        await asyncio.sleep(0.05)
        block_until(lambda: found)
        await asyncio.sleep(0)
    (blocked,) = found
    assert Path(blocked.file).name == "test_watchdog.py"
    assert blocked.function == "block_until"
    assert "blocked here" in str(blocked)
    assert blocked.seconds >= LIMIT


async def test_watch_loop_finds_each_incident() -> None:
    with watch_loop(asyncio.get_running_loop()) as found:
        for number in (1, 2):
            await asyncio.sleep(0.05)
            block_until(lambda: len(found) == number)  # noqa: B023 - called in the same iteration
        await asyncio.sleep(0.05)
    assert len(found) == 2


async def test_watch_loop_ignores_waiting() -> None:
    """Awaiting doesn't block the loop, however long it takes. This includes awaiting a thread."""
    with watch_loop(asyncio.get_running_loop()) as found:
        await asyncio.gather(asyncio.sleep(0.25), asyncio.to_thread(time.sleep, 0.25))
    assert found == []


async def test_watch_loop_ignores_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports don't count, because a module is imported only once."""
    (tmp_path / "takes_its_time.py").write_text("import time\ntime.sleep(0.2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with watch_loop(asyncio.get_running_loop()) as found:
        await asyncio.sleep(0.05)
        importlib.import_module("takes_its_time")
        await asyncio.sleep(0.05)
    assert found == []


async def test_watch_loop_ignores_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, each step takes long, but no line of the app causes this."""
    started = time.monotonic()
    monkeypatch.setattr(_Monitor, "_waited", lambda _: (time.monotonic() - started) * 0.9)
    with watch_loop(asyncio.get_running_loop()) as found:
        await asyncio.sleep(0.05)
        block()
        await asyncio.sleep(0.05)
    assert found == []


async def test_watch_loop_ignores_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage collection keeps the GIL, so the thread can't check meanwhile."""
    monkeypatch.setattr(_Monitor, "_check", lambda _: None)
    with watch_loop(asyncio.get_running_loop()):
        owners = [getattr(callback, "__self__", None) for callback in gc.callbacks]
        (monitor,) = (owner for owner in owners if isinstance(owner, _Monitor))
        before = monitor._waited()
        monitor._collect("start", {})
        block()
        assert monitor._waited() - before >= 0.3  # The collection still runs, and the thread may check now.
        monitor._collect("stop", {})
        assert monitor._waited() - before >= 0.3
    assert monitor._collect not in gc.callbacks


@pytest.mark.parametrize(
    ("settings", "warns"),
    [
        ({"environment": "development"}, True),
        ({"environment": "test"}, False),
        ({"environment": "test", "watchdog": True}, True),
        ({"environment": "development", "watchdog": False}, False),
    ],
    ids=["development", "elsewhere", "on", "off"],
)
async def test_watchdog_warns_in_development(
    settings: dict[str, Any], warns: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = {"url": f"sqlite:///{tmp_path / 'test.db'}"}
    auth = {"secret_keys": ["gladiolus-and-thirty-more-letters-for-good"]}
    kit = AppKit(Settings(_env_file=None, database=database, auth=auth, **settings), discover=False)
    async with kit.lifespan(work=False):
        await asyncio.sleep(0.05)
        monitors = [owner for each in gc.callbacks if isinstance(owner := getattr(each, "__self__", 0), _Monitor)]
        block_until(lambda: monitors[0].found) if warns else block()
        await asyncio.sleep(0.1)
    assert len(monitors) == warns
    held = [record.getMessage() for record in caplog.records if record.name == "appkit.core.watchdog"]
    assert len(held) == warns
    assert all(
        re.match(r"Event loop blocked for \d+ ms in block_until \(.*test_watchdog.py:\d+\)", each) for each in held
    )
