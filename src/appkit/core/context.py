"""The ids of the work in hand: which request, which person, which task. Every log line carries them."""

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("appkit_request_id", default=None)
"""The id of the request that is answered, or that a running task was enqueued by."""

user_id: ContextVar[str | None] = ContextVar("appkit_user_id", default=None)
"""The id of the person who made the request, or whose request enqueued the task that runs."""

task_id: ContextVar[str | None] = ContextVar("appkit_task_id", default=None)
"""The id of the background task that runs."""


def current_ids() -> dict[str, str]:
    """The ids that are set, by their names."""
    ids = {"request_id": request_id.get(), "user_id": user_id.get(), "task_id": task_id.get()}
    return {name: value for name, value in ids.items() if value is not None}
