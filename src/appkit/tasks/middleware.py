"""OutboxMiddleware, which Taskiq calls around each task, and OutboxResults, which Taskiq calls to read a result.

With the middleware, even Taskiq's own worker settles rows. Acknowledgements can't settle rows. Taskiq's worker also
acknowledges messages that can't be run. After a failure in a teardown or middleware, the worker acknowledges nothing.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from taskiq import AsyncResultBackend, TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.exceptions import ResultGetError

from appkit.core.context import request_id, task_id, user_id
from appkit.repository.database import Database
from appkit.tasks.arguments import Arguments
from appkit.tasks.context import Attempt
from appkit.tasks.handle import TaskFailedError, TaskHandle
from appkit.tasks.inflight import InFlightTasks

ATTEMPT = "appkit_attempt"
"""The label with the key of the attempt: the id of the row and the number of the attempt."""


class OutboxMiddleware(TaskiqMiddleware):
    """Settles the row of each task. This is the broker's first middleware, so it gets the result last.

    `in_flight` returns the broker's in-flight tasks. `arguments` returns the parameters of the task with this name.
    """

    def __init__(self, in_flight: Callable[[], InFlightTasks], arguments: Callable[[str], Arguments]) -> None:
        super().__init__()
        self._in_flight = in_flight
        self._arguments = arguments

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Restore the ids and the trace of the request, and validate the arguments."""
        attempt = self._attempt(message)
        task_id.set(message.task_id)
        request_id.set(message.labels.get("request_id"))
        user_id.set(message.labels.get("user_id"))
        if "traceparent" in message.labels:
            with suppress(ImportError):
                from opentelemetry.context import attach
                from opentelemetry.propagate import extract

                attach(extract(message.labels))
        self._in_flight().begin(attempt)
        arguments = self._arguments(message.task_name)
        message.args, message.kwargs = arguments.load(message.args, message.kwargs)
        return message

    async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Settle the row."""
        await self._in_flight().settle(self._attempt(message), result.error)

    def _attempt(self, message: TaskiqMessage) -> Attempt:
        row, attempt = message.labels[ATTEMPT]
        return self._in_flight().get((row, attempt))


class OutboxResults(AsyncResultBackend[Any]):
    """Taskiq's result backend. `wait_result()` reads the row, as long as the row is kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        """Do nothing, because settling the attempt writes the result."""

    async def is_result_ready(self, task_id: str) -> bool:
        """Whether the task has ended."""
        return await TaskHandle(task_id, self._database).ended()

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:  # noqa: ARG002, FBT001, FBT002 - Taskiq's
        """The task's result or error. Raises `ResultGetError` if the task doesn't exist, or has not ended."""
        try:
            value = await TaskHandle(task_id, self._database).result(timeout=0)
        except TaskFailedError as exc:
            return TaskiqResult(is_err=True, return_value=None, execution_time=0, error=exc)
        except (LookupError, TimeoutError) as exc:
            raise ResultGetError from exc
        return TaskiqResult(is_err=False, return_value=value, execution_time=0)
