import asyncio
import time
from pathlib import Path

from appkit.testing.loop import watch_loop


def hold() -> None:
    time.sleep(0.3)  # held here


async def test_watch_names_the_line_that_holds_the_loop() -> None:
    with watch_loop(asyncio.get_running_loop()) as found:
        await asyncio.sleep(0.05)
        hold()
        await asyncio.sleep(0)
    (blocked,) = found
    assert Path(blocked.file).name == "test_loop.py"
    assert blocked.function == "hold"
    assert "held here" in str(blocked)
    assert blocked.seconds >= 0.2


async def test_watch_finds_each_time() -> None:
    with watch_loop(asyncio.get_running_loop()) as found:
        for _ in range(2):
            await asyncio.sleep(0.05)
            hold()
        await asyncio.sleep(0.05)
    assert len(found) == 2


async def test_watch_lets_others_wait() -> None:
    """Waiting on the loop or in a thread holds nobody up, however long it takes."""
    with watch_loop(asyncio.get_running_loop()) as found:
        await asyncio.gather(asyncio.sleep(0.25), asyncio.to_thread(time.sleep, 0.25))
    assert found == []
