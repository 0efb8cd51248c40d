"""LivenessFile: a file by which a probe checks whether a worker is alive, because a worker answers no requests."""

import tempfile
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import anyio

from appkit.core.settings import Settings


class LivenessFile:
    """A file that a worker touches while its polls succeed.

    The file's name depends on the working directory and the app's name. To probe each worker separately, give each one
    a separate container or working directory.
    """

    def __init__(self, settings: Settings) -> None:
        place = blake2b(f"{settings.app_name}:{Path.cwd()}".encode(), digest_size=8).hexdigest()
        self._path = Path(tempfile.gettempdir()) / f"appkit-worker-{place}"
        self._limit = max(settings.tasks.lease, 3 * settings.tasks.poll_interval)
        self._interval = self._limit / 10

    async def keep_touching(self, healthy: Callable[[], bool]) -> None:
        """Touch the file while the worker is healthy, forever."""
        while True:
            if healthy():
                self._path.touch()
            await anyio.sleep(self._interval)

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)

    def problem(self) -> str | None:
        """An error message; None when the last heartbeat is recent."""
        try:
            age = time.time() - self._path.stat().st_mtime
        except FileNotFoundError:
            return "No worker runs in this directory. Start one: appkit worker"
        if age > self._limit:
            return f"The worker's last heartbeat was {age:.0f} s ago. Check its log, or restart it."
        return None
