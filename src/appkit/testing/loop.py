"""Finds code that holds the event loop, and names the line."""

import asyncio
import linecache
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType

_TICK = 0.01
_FOREIGN = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parents[1])})


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


@contextmanager
def watch_loop(loop: asyncio.AbstractEventLoop, *, limit: float = 0.1) -> Iterator[list[Blocked]]:
    """Watch a loop from a thread of its own; to be entered on the loop's thread.

    Args:
        loop: The running loop.
        limit: Seconds that one step of the loop may take.
    """
    watch = _Watch(loop, threading.get_ident(), limit)
    thread = threading.Thread(target=watch.run, name="appkit-loop-watch", daemon=True)
    thread.start()
    try:
        yield watch.found
    finally:
        watch.stopped.set()
        thread.join()


class _Watch:
    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int, limit: float) -> None:
        self._loop = loop
        self._thread = thread
        self._limit = limit
        self._answered = monotonic()
        self._asked = False
        self.found: list[Blocked] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        """Ask the loop for a sign of life, and look at what its thread does while there is none."""
        current: Blocked | None = None
        seen = 0
        while not self.stopped.wait(_TICK):
            if not self._asked:
                current, seen = None, 0
                self._ask()
                continue
            if not self._loop.is_running():  # Between two tests, say: its thread may do what it likes.
                self._answered, seen = monotonic(), 0
                continue
            frame = sys._current_frames().get(self._thread)
            seen += 1
            seconds = monotonic() - self._answered
            # A machine that stood still shows as a long time in which we hardly looked.
            if frame is None or seconds < self._limit or seen < self._limit / _TICK / 2:
                continue
            if current is None:
                current = _describe(frame)
                self.found.append(current)
            current.seconds = seconds

    def _ask(self) -> None:
        self._asked, self._answered = True, monotonic()
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # The loop is closed.
            self.stopped.set()

    def _answer(self) -> None:
        self._asked = False


def _describe(frame: FrameType) -> Blocked:
    """The innermost line that is the app's own, for that is the one to change."""
    frames = []
    step: FrameType | None = frame
    while step is not None:
        frames.append(step)
        step = step.f_back
    own = next((frame for frame in frames if not frame.f_code.co_filename.startswith((*_FOREIGN, "<"))), frame)
    return Blocked(0.0, own.f_code.co_filename, own.f_lineno, own.f_code.co_name)
