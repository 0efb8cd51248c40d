"""OutboxResults: the outbox as Taskiq's result backend, for what a task returned is in its row."""

from typing import Any

from taskiq import AsyncResultBackend, TaskiqResult
from taskiq.exceptions import ResultGetError

from appkit.repository.database import Database
from appkit.tasks.handle import TaskFailedError, TaskHandle


class OutboxResults(AsyncResultBackend[Any]):
    """What `wait_result()` of Taskiq's own tasks asks, as long as the row is kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        """Do nothing: the row is written when the attempt is settled."""

    async def is_result_ready(self, task_id: str) -> bool:
        """Whether the task has ended."""
        return await TaskHandle(task_id, self._database).ended()

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:  # noqa: ARG002, FBT001, FBT002 - Taskiq's
        """What it returned, or why it came to nothing.

        Raises:
            ResultGetError: When there is no such task, or it has not ended.
        """
        try:
            value = await TaskHandle(task_id, self._database).result(timeout=0)
        except TaskFailedError as exc:
            return TaskiqResult(is_err=True, return_value=None, execution_time=0, error=exc)
        except (LookupError, TimeoutError) as exc:
            raise ResultGetError from exc
        return TaskiqResult(is_err=False, return_value=value, execution_time=0)
