"""OutboxMiddleware: what Taskiq calls around each task, so that any worker, Taskiq's own too, settles the task's row.

Never in the acknowledgement: a stock worker acknowledges what it can't run too, and says nothing at all when a
dependency's teardown or another middleware fails.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult

from appkit.core.context import request_id, task_id, user_id
from appkit.tasks.lease import Lease

if TYPE_CHECKING:
    from appkit.tasks.broker import OutboxBroker

ATTEMPT = "appkit_attempt"
"""The label that says which row a message is about, and which attempt."""


class OutboxMiddleware(TaskiqMiddleware):
    """The first of its broker's middlewares, and so the last to hear of the result."""

    broker: "OutboxBroker"

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Restore the ids of the work in hand, and read the arguments as the task's annotations have them."""
        lease = self._lease(message)
        task_id.set(message.task_id)
        request_id.set(message.labels.get("request_id"))
        user_id.set(message.labels.get("user_id"))
        if "traceparent" in message.labels:
            _continue_trace(message.labels)
        self.broker.leases.begin(lease)
        arguments = self.broker.arguments(message.task_name)
        message.args, message.kwargs = arguments.load(message.args, message.kwargs)
        return message

    async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """See that the row will say how it ended."""
        await self.broker.leases.settle(self._lease(message), result.error)

    def _lease(self, message: TaskiqMessage) -> Lease:
        row, attempt = message.labels[ATTEMPT]
        return self.broker.leases.get((row, attempt))


def _continue_trace(labels: dict[str, Any]) -> None:
    """Make what the task does a part of the trace that enqueued it, for as long as the attempt's own context lives."""
    with suppress(ImportError):
        from opentelemetry.context import attach
        from opentelemetry.propagate import extract

        attach(extract(labels))
