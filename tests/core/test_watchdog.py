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
from appkit.core.watchdog import LIMIT, _Watch, watch_loop
from appkit.kit import AppKit


def hold() -> None:
    time.sleep(0.3)


def hold_until(found: Callable[[], object]) -> None:
    """Hold the loop until the watch, whose thread a busy machine may keep waiting, has found it."""
    end = time.monotonic() + 60
    while not found() and time.monotonic() < end:  # held here
        time.sleep(0.02)  # held here


async def test_watch_names_the_line_that_holds_the_loop() -> None:
    with watch_loop(asyncio.get_running_loop()) as found:
        await asyncio.sleep(0.05)
        hold_until(lambda: found)
        await asyncio.sleep(0)
    (blocked,) = found
    assert Path(blocked.file).name == "test_watchdog.py"
    assert blocked.function == "hold_until"
    assert "held here" in str(blocked)
    assert blocked.seconds >= LIMIT


async def test_watch_finds_each_time() -> None:
    with watch_loop(asyncio.get_running_loop()) as found:
        for number in (1, 2):
            await asyncio.sleep(0.05)
            hold_until(lambda: len(found) == number)  # noqa: B023 - it is called at once
        await asyncio.sleep(0.05)
    assert len(found) == 2


async def test_watch_lets_others_wait() -> None:
    """Waiting on the loop or in a thread holds nobody up, however long it takes."""
    with watch_loop(asyncio.get_running_loop()) as found:
        await asyncio.gather(asyncio.sleep(0.25), asyncio.to_thread(time.sleep, 0.25))
    assert found == []


async def test_watch_forgives_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module is imported once."""
    (tmp_path / "takes_its_time.py").write_text("import time\ntime.sleep(0.2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with watch_loop(asyncio.get_running_loop()) as found:
        await asyncio.sleep(0.05)
        importlib.import_module("takes_its_time")
        await asyncio.sleep(0.05)
    assert found == []


async def test_watch_forgives_what_other_processes_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is too busy, each step takes long, and no line is to blame."""
    started = time.monotonic()
    monkeypatch.setattr(_Watch, "_waited", lambda _: (time.monotonic() - started) * 0.9)
    with watch_loop(asyncio.get_running_loop()) as found:
        await asyncio.sleep(0.05)
        hold()
        await asyncio.sleep(0.05)
    assert found == []


async def test_watch_forgives_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds Python's lock, so that nobody looks meanwhile."""
    monkeypatch.setattr(_Watch, "_look", lambda _: None)
    with watch_loop(asyncio.get_running_loop()):
        (watch,) = (found for callback in gc.callbacks if isinstance(found := getattr(callback, "__self__", 0), _Watch))
        before = watch._waited()
        watch._collect("start", {})
        hold()
        assert watch._waited() - before >= 0.3  # It isn't over yet, and somebody may look at this very moment.
        watch._collect("stop", {})
        assert watch._waited() - before >= 0.3
    assert watch._collect not in gc.callbacks


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
        watches = [owner for each in gc.callbacks if isinstance(owner := getattr(each, "__self__", 0), _Watch)]
        hold_until(lambda: watches[0].found) if warns else hold()
        await asyncio.sleep(0.1)
    assert len(watches) == warns
    held = [record.getMessage() for record in caplog.records if record.name == "appkit.core.watchdog"]
    assert len(held) == warns
    assert all(
        re.match(r"Nobody was answered for \d+ ms in hold_until \(.*test_watchdog.py:\d+\)", each) for each in held
    )
