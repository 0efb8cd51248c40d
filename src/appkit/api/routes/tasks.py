"""Routes to administer background tasks, and to stream users their own tasks.

An app has these routes only if it mounts the routers: `AppKit(routers=[tasks_router, my_tasks_router])`.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from time import monotonic
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from appkit.api.dependencies import CurrentUser, DbSession, app_of, get_superuser
from appkit.api.errors import errors
from appkit.api.schemas import Schema
from appkit.exceptions import ConflictException, ForbiddenException, NotFoundException
from appkit.repository.outbox import TaskState
from appkit.repository.pagination import CursorPage
from appkit.service.tasks import TaskService

POLL_INTERVAL: Final = 0.5
"""Seconds between polls of a user's tasks."""
STREAM_TIME: Final = 300.0
"""Seconds after which a stream ends. A browser then reconnects, and is authenticated again."""

tasks_router = APIRouter(
    prefix="/tasks", tags=["tasks"], dependencies=[Depends(get_superuser)], responses=errors(ForbiddenException)
)
my_tasks_router = APIRouter(prefix="/my/tasks", tags=["tasks"])


class MyTaskSchema(Schema):
    """A task, as shown to the user who started the task."""

    task_id: str
    task_name: str
    state: TaskState
    progress: dict[str, Any] | None


class TaskSchema(MyTaskSchema):
    """A task, as shown to superusers."""

    queue: str
    priority: int
    attempts: int
    max_attempts: int | None
    run_at: datetime | None
    expires_at: datetime | None
    last_error: str | None
    error_code: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class TaskDetailSchema(TaskSchema):
    """A task with its arguments and result."""

    payload: dict[str, Any]
    result: Any


class TaskStatsSchema(Schema):
    """Statistics of background tasks."""

    depth: dict[str, dict[str, int]]
    oldest_pending: float
    rescued: int
    dead: int
    duration_p50: float | None
    duration_p95: float | None


class ScheduleSchema(Schema):
    """A cron schedule."""

    name: str
    cron: str
    timezone: str
    last_slot: datetime
    paused: bool


@tasks_router.get("")
async def list_tasks(
    db: DbSession,
    state: TaskState | None = None,
    queue: str | None = None,
    name: str | None = None,
    cursor: str | None = None,
    size: Annotated[int, Query(ge=1, le=200)] = 50,
) -> CursorPage[TaskSchema]:
    """The tasks, newest first."""
    page = await TaskService(db).page(state=state, queue=queue, name=name, cursor=cursor, size=size)
    return CursorPage[TaskSchema].model_validate(page)


@tasks_router.get("/stats")
async def show_task_stats(db: DbSession) -> TaskStatsSchema:
    """Queue depth, waiting time and durations."""
    return TaskStatsSchema.model_validate(await TaskService(db).stats())


@tasks_router.get("/schedules")
async def list_schedules(db: DbSession) -> list[ScheduleSchema]:
    """The schedules."""
    return [ScheduleSchema.model_validate(schedule) for schedule in await TaskService(db).schedules()]


@tasks_router.post("/schedules/{name}/pause", responses=errors(NotFoundException))
async def pause_schedule(name: str, db: DbSession) -> ScheduleSchema:
    """Pause a schedule."""
    return ScheduleSchema.model_validate(await TaskService(db).pause(name))


@tasks_router.post("/schedules/{name}/resume", responses=errors(NotFoundException))
async def resume_schedule(name: str, db: DbSession) -> ScheduleSchema:
    """Resume a schedule. It enqueues tasks again from its next slot on."""
    return ScheduleSchema.model_validate(await TaskService(db).pause(name, paused=False))


@tasks_router.get("/{task_id}", responses=errors(NotFoundException))
async def get_task(task_id: str, db: DbSession) -> TaskDetailSchema:
    """One task."""
    return TaskDetailSchema.model_validate(await TaskService(db).get(task_id))


@tasks_router.post("/{task_id}/retry", responses=errors(NotFoundException, ConflictException))
async def retry_task(task_id: str, db: DbSession) -> TaskSchema:
    """Run a dead or cancelled task again."""
    return TaskSchema.model_validate(await TaskService(db).retry(task_id))


@tasks_router.post("/{task_id}/cancel", responses=errors(NotFoundException, ConflictException))
async def cancel_task(task_id: str, db: DbSession) -> TaskSchema:
    """Cancel a task."""
    return TaskSchema.model_validate(await TaskService(db).cancel(task_id))


@my_tasks_router.get("/events", response_class=EventSourceResponse)
async def watch_my_tasks(user: CurrentUser, request: Request) -> AsyncIterator[ServerSentEvent]:
    """Stream your open tasks: an event of type `task` for each change."""
    database, seen = app_of(request).database, dict[str, MyTaskSchema]()
    end = monotonic() + STREAM_TIME
    while monotonic() < end:
        async with database.read_session(primary=True) as db:
            tasks = [MyTaskSchema.model_validate(task) for task in await TaskService(db).of_user(user.id, also=[*seen])]
        for task in tasks:
            if seen.get(task.task_id) != task:
                seen[task.task_id] = task
                yield ServerSentEvent(event="task", data=task)
        await asyncio.sleep(POLL_INTERVAL)
