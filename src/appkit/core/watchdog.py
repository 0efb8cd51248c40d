"""Watchdog: finds code that blocks the event loop, and logs the line of code."""

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
from traceback import walk_stack
from types import FrameType
from typing import Final

from appkit.core.settings import Settings
from appkit.plugins.markers import hookimpl

LIMIT: Final = 0.1
"""Seconds that one step of the event loop may take."""

_TICK: Final = 0.01
_FOREIGN: Final = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parents[1]), "<")

logger = logging.getLogger(__name__)


@dataclass
class Blocked:
    """One blocking incident: the time for which the event loop was blocked, and the line that blocked it."""

    seconds: float
    file: str
    line: int
    function: str

    def __str__(self) -> str:
        source = linecache.getline(self.file, self.line).strip()
        return f"{self.seconds * 1000:.0f} ms in {self.function} ({self.file}:{self.line}): {source}"


class Watchdog:
    """A plugin that logs lines that block the event loop. If `WATCHDOG` is unset, it runs only in development."""

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.environment == "development" if settings.watchdog is None else settings.watchdog

    @hookimpl
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Monitor the loop until the app stops."""
        if not self._enabled:
            yield
            return
        with watch_loop(asyncio.get_running_loop(), report=_warn):
            yield


def _warn(blocked: Blocked) -> None:
    logger.warning("Event loop blocked for %s. Run this code in a thread, or use an async call.", blocked)


@contextmanager
def watch_loop(
    loop: asyncio.AbstractEventLoop, *, limit: float = LIMIT, report: Callable[[Blocked], None] = lambda _: None
) -> Iterator[list[Blocked]]:
    """Monitor an event loop from a separate thread. Enter this context in the loop's own thread.

    Imports and garbage collection don't count. On Linux, the time in which other processes used the processor doesn't
    count either.

    Args:
        limit: Seconds that one step of the loop may take.
        report: Called with each blocking incident, after the incident.
    """
    monitor = _Monitor(loop, limit, report)
    thread = threading.Thread(target=monitor.run, name="appkit-watchdog", daemon=True)
    thread.start()
    try:
        yield monitor.found
    finally:
        monitor.stop()
        thread.join()


class _Monitor:
    """A heartbeat on the loop, and the code that monitors the heartbeat in a thread."""

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
        self._since = self._checked_at = monotonic() - self._waited()
        self._handle = self._loop.call_later(_TICK, self._beat)

    def run(self) -> None:
        """Check the stack of the loop's thread when the heartbeat is late."""
        while not self.stopped.wait(_TICK):
            self._check()
        self._end()

    def stop(self) -> None:
        """Stop the heartbeat and the thread. Call this in the loop's thread."""
        gc.callbacks.remove(self._collect)
        self._handle.cancel()
        self.stopped.set()

    def _check(self) -> None:
        since, now = self._since, monotonic() - self._waited()
        # Time doesn't count while the loop isn't running (between two tests), or while this thread couldn't run.
        unseen = now - self._checked_at if not self._loop.is_running() else max(0.0, now - self._checked_at - 5 * _TICK)
        self._checked_at = now
        if unseen and self._since == since:
            self._since = since = since + unseen
        seconds = now - since - _TICK
        if seconds < self._limit / 2:
            self._steps.clear()
            self._end()
            return
        # Reading all threads' stacks is expensive, so it is done only after half the limit.
        current = sys._current_frames()[self._thread]  # noqa: SLF001 - the only API for it
        stack = [frame for frame, _ in walk_stack(current)]
        queued, step = self._queueing(), _step(stack)
        if not self._steps or self._steps[0] is not step:
            if self._steps:  # A new step of the loop has begun since the last check.
                self._since = now - self._limit / 2
            self._steps, self._queued = [step], queued
        lost = max((delay - self._queued.get(thread, delay) for thread, delay in queued.items()), default=0.0)
        seconds = now - self._since - lost
        if seconds < self._limit:
            self._end()
            return
        idle = Path(stack[0].f_code.co_filename).name == "selectors.py"  # The loop waits for events.
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
        """The seconds that each of the other threads waited for a processor. A waiting thread may hold the GIL."""
        threads = set(Path("/proc/self/task").glob("*/schedstat")) - {self._delays}
        return {thread: _delay(thread) for thread in threads}

    def _waited(self) -> float:
        """The seconds for which the loop's thread could not run, because of other processes or garbage collection."""
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
    """The seconds for which a thread was ready to run, but had no processor. Linux counts them in schedstat."""
    try:
        return int(schedstat.read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _step(stack: list[FrameType]) -> FrameType | None:
    """The frame that the loop called for its current step, or None if the loop isn't asyncio's."""
    runs = (frame.f_code.co_name == "_run" and Path(frame.f_code.co_filename).name == "events.py" for frame in stack)
    position = next((number for number, found in enumerate(runs) if found), 0)
    return stack[position - 1] if position else None


def _describe(stack: list[FrameType]) -> Blocked:
    """Describe the innermost line of the app's own code, because this line must be changed."""
    own = next((frame for frame in stack if not frame.f_code.co_filename.startswith(_FOREIGN)), stack[0])
    return Blocked(0.0, own.f_code.co_filename, own.f_lineno, own.f_code.co_name)
