"""The ids of the current request, user and task. Each log line contains these ids."""

from contextvars import ContextVar
from uuid import UUID

request_id: ContextVar[str | None] = ContextVar("appkit_request_id", default=None)
"""The id of the current request. In a task, the id of the request that enqueued the task."""

user_id: ContextVar[str | None] = ContextVar("appkit_user_id", default=None)
"""The id of the user who is signed in to this request."""

task_id: ContextVar[str | None] = ContextVar("appkit_task_id", default=None)
"""The id of the current background task."""


def current_user_id() -> UUID | None:
    """The id of the signed-in user; None if no user is signed in."""
    value = user_id.get()
    return None if value is None else UUID(value)


def current_ids() -> dict[str, str]:
    """The ids that are set, by name: `request_id`, `user_id`, `task_id`."""
    ids = {"request_id": request_id.get(), "user_id": user_id.get(), "task_id": task_id.get()}
    return {name: value for name, value in ids.items() if value is not None}
