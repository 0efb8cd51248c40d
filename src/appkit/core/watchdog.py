"""Finds code that holds the event loop, and names the line."""

import asyncio
import gc
import linecache
import logging
import sys
import sysconfig
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Final

from appkit.plugins.markers import hookimpl

LIMIT: Final = 0.1
"""Seconds that one step of the loop may take."""

_TICK: Final = 0.01
_FOREIGN: Final = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parents[1]), "<")

logger = logging.getLogger(__name__)


@dataclass
class Blocked:
    """Once that the loop was held, and by whom."""

    seconds: float
    file: str
    line: int
    function: str

    def __str__(self) -> str:
        source = linecache.getline(self.file, self.line).strip()
        return f"{self.seconds * 1000:.0f} ms in {self.function} ({self.file}:{self.line}): {source}"


class Watchdog:
    """Logs what holds the loop of an app or a worker, while one is written; a plugin like anybody's.

    Args:
        enabled: Whether it looks at all.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled

    @hookimpl
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Look from the start to the end."""
        if not self._enabled:
            yield
            return
        with watch_loop(asyncio.get_running_loop(), report=_warn):
            yield


def _warn(blocked: Blocked) -> None:
    logger.warning("Nobody was answered for %s. Use a thread, or what can be awaited.", blocked)


@contextmanager
def watch_loop(
    loop: asyncio.AbstractEventLoop, *, limit: float = LIMIT, report: Callable[[Blocked], None] = lambda _: None
) -> Iterator[list[Blocked]]:
    """Watch a loop from a thread of its own; to be entered on the loop's thread.

    What is no line's fault doesn't count: modules that are imported for the first time, garbage that is collected, and
    the time for which other processes had the processor (on Linux, which tells).

    Args:
        loop: The running loop.
        limit: Seconds that one step of the loop may take.
        report: Called for each time, once it is over.
    """
    watch = _Watch(loop, limit, report)
    thread = threading.Thread(target=watch.run, name="appkit-watchdog", daemon=True)
    thread.start()
    try:
        yield watch.found
    finally:
        watch.stop()
        thread.join()


class _Watch:
    """A pulse on the loop, and a thread that feels it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: float, report: Callable[[Blocked], None]) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._delays = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._limit = limit
        self._report = report
        self._current: Blocked | None = None
        self._collecting: float | None = None
        self._collected = 0.0
        self._queued: dict[Path, float] = {}
        self._steps: list[FrameType | None] = []
        self.found: list[Blocked] = []
        self.stopped = threading.Event()
        gc.callbacks.append(self._collect)
        self._beat()

    def _beat(self) -> None:
        self._since = self._looked = monotonic() - self._waited()
        self._handle = self._loop.call_later(_TICK, self._beat)

    def run(self) -> None:
        """Look at what the loop's thread does while there is no pulse."""
        while not self.stopped.wait(_TICK):
            self._look()
        self._end()

    def stop(self) -> None:
        """End both; on the loop's thread."""
        gc.callbacks.remove(self._collect)
        self._handle.cancel()
        self.stopped.set()

    def _look(self) -> None:
        since, now = self._since, monotonic() - self._waited()
        # Between two tests the loop's thread may do what it likes; and where nobody could look, all stood still.
        unseen = now - self._looked if not self._loop.is_running() else max(0.0, now - self._looked - 5 * _TICK)
        self._looked = now
        if unseen and self._since == since:
            self._since = since = since + unseen
        seconds = now - since - _TICK
        if seconds < self._limit / 2:
            self._steps.clear()
            self._end()
            return
        # There may be many threads and frames, so they are looked at only where the loop is halfway to being held.
        stack = list(_stack(sys._current_frames()[self._thread]))  # noqa: SLF001 - There is no other way to ask.
        queued, step = self._queueing(), _step(stack)
        if not self._steps or self._steps[0] is not step:
            if self._steps:  # Until now it was another that held it, if anybody.
                self._since = now - self._limit / 2
            self._steps, self._queued = [step], queued
        lost = max((delay - self._queued.get(thread, delay) for thread, delay in queued.items()), default=0.0)
        seconds = now - self._since - lost
        if seconds < self._limit:
            self._end()
            return
        idle = Path(stack[0].f_code.co_filename).name == "selectors.py"  # It has not been woken yet.
        if idle or any(frame.f_code.co_filename.startswith("<frozen importlib") for frame in stack):
            self._since = now
        elif self._current is None:
            self._current = _describe(stack)
            self.found.append(self._current)
        if self._current is not None:
            self._current.seconds = seconds

    def _end(self) -> None:
        if self._current is not None:
            self._report(self._current)
            self._current = None

    def _queueing(self) -> dict[Path, float]:
        """For how long each other thread of ours waited for a processor: one of them may have held Python's lock."""
        threads = set(Path("/proc/self/task").glob("*/schedstat")) - {self._delays}
        return {thread: _delay(thread) for thread in threads}

    def _waited(self) -> float:
        """Seconds for which the thread could not run: others had the processor, or garbage was collected."""
        began = self._collecting
        collecting = 0.0 if began is None else monotonic() - began
        return _delay(self._delays) + self._collected + collecting

    def _collect(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collecting = monotonic()
        elif self._collecting is not None:
            self._collected += monotonic() - self._collecting
            self._collecting = None


def _delay(schedstat: Path) -> float:
    """Seconds for which a thread was ready to run and did not (Linux's sched-stats)."""
    try:
        return int(schedstat.read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _stack(frame: FrameType) -> Iterator[FrameType]:
    """The frames, the innermost first."""
    step: FrameType | None = frame
    while step is not None:
        yield step
        step = step.f_back


def _step(stack: list[FrameType]) -> FrameType | None:
    """The frame that the loop itself has called, one for each of its steps; None where the loop is not asyncio's."""
    runs = (frame.f_code.co_name == "_run" and Path(frame.f_code.co_filename).name == "events.py" for frame in stack)
    position = next((number for number, found in enumerate(runs) if found), 0)
    return stack[position - 1] if position else None


def _describe(stack: list[FrameType]) -> Blocked:
    """The innermost line that is the app's own, for that is the one to change."""
    own = next((frame for frame in stack if not frame.f_code.co_filename.startswith(_FOREIGN)), stack[0])
    return Blocked(0.0, own.f_code.co_filename, own.f_lineno, own.f_code.co_name)
