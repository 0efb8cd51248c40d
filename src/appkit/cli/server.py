"""`appkit dev`, `appkit run` and `appkit worker`: the development server, the server and the separate worker."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appkit.cli.discovery import find_kit
from appkit.cli.output import Target, fail

if TYPE_CHECKING:
    from appkit.core.settings import Settings
    from appkit.kit import AppKit

Host = Annotated[str, typer.Option(help="The host or IP address to listen on.")]
Port = Annotated[int, typer.Option(help="The port to listen on.")]


def dev(target: Target = None, *, host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Run a server for development. The server reloads when a file changes."""
    import uvicorn

    _default("ENVIRONMENT", "development")
    _default("TASKS_SHUTDOWN_GRACE", "1")  # A reload shouldn't wait. The tasks that it interrupts run again.
    found = find_kit(target)
    address = f"http://{host}:{port}"
    typer.echo(f"{found.app_path} at {address}, API documentation at {address}{found.kit.settings.api_prefix}/docs")
    uvicorn.run(
        found.app_path,
        host=host,
        port=port,
        reload=True,
        reload_dirs=[str(Path.cwd())],
        timeout_graceful_shutdown=1,
        log_config=None,
        access_log=False,
    )


def run(
    target: Target = None,
    *,
    host: Host = "0.0.0.0",  # noqa: S104 - a server must be reachable
    port: Port = 8000,
    workers: Annotated[int, typer.Option(min=1, help="The number of server processes.")] = 1,
) -> None:
    """Run the server, with ENVIRONMENT=production by default."""
    import anyio
    import uvicorn

    _default("ENVIRONMENT", "production")
    found = find_kit(target)
    anyio.run(_preflight, found.kit)
    uvicorn.run(
        found.app_path,
        host=host,
        port=port,
        workers=workers,
        timeout_graceful_shutdown=10,
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=[*map(str, found.kit.settings.http.trusted_proxies)],
    )


def worker(
    target: Target = None,
    *,
    queues: Annotated[
        str | None, typer.Option(help="Run only these queues, as in `mail,reports`.  [default: TASKS_QUEUES]")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="The maximum number of concurrent tasks.  [default: TASKS_CONCURRENCY]")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Run no tasks. Only check whether the worker of this folder is healthy."),
    ] = False,
) -> None:
    """Run background tasks in a separate worker, until SIGINT or SIGTERM."""
    import anyio

    if queues is not None:
        os.environ["TASKS_QUEUES"] = json.dumps([name for part in queues.split(",") if (name := part.strip())])
    if concurrency is not None:
        os.environ["TASKS_CONCURRENCY"] = str(concurrency)
    kit = find_kit(target).kit
    liveness = LivenessFile(kit.settings)
    if not check:
        anyio.run(_work, kit, liveness)
    elif (problem := liveness.problem()) is not None:
        raise fail(problem)
    else:
        typer.echo("The worker is healthy.")


class LivenessFile:
    """A file that a worker touches while its polls succeed. Health checks read the file, because a worker has no port.

    The file's name depends on the working directory and the app's name. To check several workers on one machine, run
    each worker in another container or directory.
    """

    def __init__(self, settings: "Settings") -> None:
        place = blake2b(f"{settings.app_name}:{Path.cwd()}".encode(), digest_size=8).hexdigest()
        self._path = Path(tempfile.gettempdir()) / f"appkit-worker-{place}"
        self._limit = max(settings.tasks.lease, 3 * settings.tasks.poll_interval)
        self._interval = self._limit / 10

    async def keep_touching(self, healthy: Callable[[], bool]) -> None:
        """Touch the file while the worker is healthy, until cancelled."""
        import anyio

        while True:
            if healthy():
                self._path.touch()
            await anyio.sleep(self._interval)

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)

    def problem(self) -> str | None:
        """An error message, or None if the file was touched recently."""
        try:
            age = time.time() - self._path.stat().st_mtime
        except FileNotFoundError:
            return "No worker runs in this directory. Start one: appkit worker"
        if age > self._limit:
            return f"The worker's last heartbeat was {age:.0f} s ago. Check its log, or restart it."
        return None


def _default(name: str, value: str) -> None:
    """Set a variable, unless the environment or `.env` sets it."""
    from dotenv import dotenv_values

    if not os.environ.get(name) and not dotenv_values(".env").get(name):
        os.environ[name] = value


async def _preflight(kit: "AppKit") -> None:
    """Start the app once before the server, so that a startup error is reported once, not by each process."""
    async with kit.lifespan(work=False):
        pass


async def _work(kit: "AppKit", liveness: LivenessFile) -> None:
    import anyio

    async with kit.lifespan(work=True), anyio.create_task_group() as group:
        group.start_soon(liveness.keep_touching, lambda: kit.broker.healthy)
        await _wait_for_signal()
        group.cancel_scope.cancel()
    liveness.remove()


async def _wait_for_signal() -> None:
    import signal

    import anyio

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return
