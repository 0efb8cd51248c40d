"""Pulse: how a probe sees that a worker is well, which answers no requests."""

import tempfile
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import anyio

from appkit.core.settings import Settings


class Pulse:
    """A file that a worker touches as long as it finds its way to the outbox.

    It belongs to the folder and the app's name, and so to all workers that are started there: give each a container,
    or a folder, of its own where a probe is to tell them apart.
    """

    def __init__(self, settings: Settings) -> None:
        place = blake2b(f"{settings.app_name}:{Path.cwd()}".encode(), digest_size=8).hexdigest()
        self._path = Path(tempfile.gettempdir()) / f"appkit-worker-{place}"
        self._limit = max(settings.tasks.lease, 3 * settings.tasks.poll_interval)
        self._interval = self._limit / 10

    async def beat(self, well: Callable[[], bool]) -> None:
        """Touch the file while all is well, for ever."""
        while True:
            if well():
                self._path.touch()
            await anyio.sleep(self._interval)

    def stop(self) -> None:
        """Leave nothing behind."""
        self._path.unlink(missing_ok=True)

    def problem(self) -> str | None:
        """What is wrong, in a sentence; None when the last beat was less than a lease ago."""
        try:
            age = time.time() - self._path.stat().st_mtime
        except FileNotFoundError:
            return "No worker runs in this folder. Start one: appkit worker"
        if age > self._limit:
            return f"The worker was well {age:.0f} s ago for the last time. Look at its log, or start it again."
        return None
