"""The administration of background tasks, and one's own tasks as they run."""

import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from fastapi import APIRouter, Request

from appkit.api.dependencies import CurrentUser, DbSession
from appkit.api.routes import tasks as routes
from appkit.api.routes.tasks import my_tasks_router, tasks_router
from appkit.exceptions import ConflictException, ForbiddenException, NotFoundException, UnauthorizedException
from appkit.kit import AppKit
from appkit.repository.outbox import ScheduledTask, TaskState
from appkit.service.tasks import TaskService
from appkit.tasks.router import TaskRouter, enqueue
from appkit.testing.kits import rebuilt

jobs = TaskRouter()
router = APIRouter()


@jobs.task(name="admin:fail", max_attempts=1)
async def fail(number: int) -> None:
    raise ValueError(f"no {number}")


@jobs.task(name="admin:work", queue="reports")
async def work() -> None: ...


@router.post("/work", status_code=202)
async def start_work(user: CurrentUser, db: DbSession) -> str:
    return enqueue(db, work).task_id


@pytest.fixture
def kit(settings):
    with rebuilt(AppKit(routers=[tasks_router, my_tasks_router, router], task_routers=[jobs]), settings) as kit:
        yield kit


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/stats"),
        ("GET", "/schedules"),
        ("POST", "/schedules/x/pause"),
        ("POST", "/schedules/x/resume"),
        ("GET", "/x"),
        ("POST", "/x/retry"),
        ("POST", "/x/cancel"),
    ],
)
async def test_tasks_are_for_superusers_only(client, auth_client, assert_error, method, path):
    assert_error(await client.request(method, f"/api/tasks{path}"), UnauthorizedException)
    assert_error(await auth_client.request(method, f"/api/tasks{path}"), ForbiddenException)


async def test_tasks_are_listed_by_state_queue_and_name_page_by_page(admin_client, db, tasks):
    made = [enqueue(db, fail, number).task_id for number in range(3)] + [enqueue(db, work).task_id]
    await tasks.run(check=False)

    async def listed(**query: object) -> list[str]:
        answer = await admin_client.get("/api/tasks", params={"size": 200, **query})
        return [task["task_id"] for task in answer.json()["items"] if task["task_name"].startswith("admin:")]

    assert await listed() == made[::-1]
    assert await listed(state="dead") == made[2::-1]
    assert await listed(queue="reports") == [made[3]]
    assert await listed(name="admin:fail", state="done") == []
    first = (await admin_client.get("/api/tasks", params={"name": "admin:fail", "size": 2})).json()
    assert [task["task_id"] for task in first["items"]] == made[2:0:-1]
    assert await listed(name="admin:fail", cursor=first["next_cursor"]) == made[:1]


async def test_dead_task_is_shown_and_runs_again_with_all_its_attempts(admin_client, db, tasks, assert_error):
    task_id = enqueue(db, fail, 5).task_id
    await tasks.run(check=False)
    shown = (await admin_client.get(f"/api/tasks/{task_id}")).json()
    assert (shown["state"], shown["attempts"], shown["last_error"]) == ("dead", 1, "ValueError: no 5")
    assert shown["payload"]["args"] == [5]

    answer = await admin_client.post(f"/api/tasks/{task_id}/retry")
    assert (answer.json()["state"], answer.json()["attempts"]) == ("pending", 0)
    assert [row.task_id for row in await tasks.run(check=False)] == [task_id]
    assert_error(await admin_client.post("/api/tasks/unknown/retry"), NotFoundException)


async def test_waiting_task_is_cancelled_and_can_be_retried(admin_client, db, tasks, assert_error):
    task_id = enqueue(db, work).task_id
    assert_error(await admin_client.post(f"/api/tasks/{task_id}/retry"), ConflictException)
    assert (await admin_client.post(f"/api/tasks/{task_id}/cancel")).json()["state"] == "cancelled"
    assert task_id not in [row.task_id for row in await tasks.run()]
    assert_error(await admin_client.post(f"/api/tasks/{task_id}/cancel"), ConflictException)
    assert_error(await admin_client.post("/api/tasks/unknown/cancel"), NotFoundException)

    await admin_client.post(f"/api/tasks/{task_id}/retry")
    assert task_id in [row.task_id for row in await tasks.run()]
    assert (await admin_client.get(f"/api/tasks/{task_id}")).json()["state"] == "done"


async def test_stats_report_depth_and_durations(admin_client, db, tasks):
    enqueue(db, fail, 1)
    enqueue(db, work)
    await tasks.run(check=False)
    waiting = await TaskService(db).get(enqueue(db, work).task_id)
    waiting.created_at = datetime.now(UTC) - timedelta(minutes=5)
    lost = await TaskService(db).get(enqueue(db, fail, 2).task_id)
    lost.error_code = "TASK_LOST"

    stats = (await admin_client.get("/api/tasks/stats")).json()
    assert stats["depth"]["reports"] == {"done": 1, "pending": 1}
    assert stats["depth"]["default"]["dead"] == stats["dead"] == 1
    assert 290 < stats["oldest_pending"] < 400
    assert stats["rescued"] == 1
    assert 0 <= stats["duration_p50"] <= stats["duration_p95"] < 60


async def test_schedule_is_paused_and_resumed(admin_client, db, assert_error):
    db.add(ScheduledTask(name="admin:nightly", cron="0 3 * * *", timezone="UTC", last_slot=datetime.now(UTC)))
    assert [each["name"] for each in (await admin_client.get("/api/tasks/schedules")).json()] == ["admin:nightly"]
    assert (await admin_client.post("/api/tasks/schedules/admin:nightly/pause")).json()["paused"] is True
    assert (await admin_client.post("/api/tasks/schedules/admin:nightly/resume")).json()["paused"] is False
    assert_error(await admin_client.post("/api/tasks/schedules/unknown/pause"), NotFoundException)


async def test_ended_tasks_are_pruned_by_state_and_age(app, db, tasks):
    enqueue(db, fail, 1)
    enqueue(db, work)
    await tasks.run(check=False)
    enqueue(db, work)
    service = TaskService(db)

    assert await service.prune(older_than=timedelta(hours=1)) == 0
    assert await service.prune(state=TaskState.DEAD) == 1
    assert await service.prune() == 1
    assert [task.state for task in (await service.page()).items] == ["pending"]
    with pytest.raises(ConflictException, match="has not ended"):
        await service.prune(state=TaskState.PENDING)


async def test_all_dead_tasks_run_again_by_name(app, db, tasks):
    for number in range(3):
        enqueue(db, fail, number)
    await tasks.run(check=False)
    service = TaskService(db)

    assert await service.retry_dead(name="admin:work") == 0
    assert await service.retry_dead() == 3


async def test_own_open_tasks_are_streamed(auth_client, client, tasks, assert_error, monkeypatch):
    monkeypatch.setattr(routes, "STREAM_TIME", 0.1)
    monkeypatch.setattr(routes, "POLL_INTERVAL", 0.01)
    task_id = (await auth_client.post("/api/work")).json()

    answer = await auth_client.get("/api/my/tasks/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.splitlines()
    events = [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]
    assert "event: task" in lines
    assert (task_id, "pending") in [(event["task_id"], event["state"]) for event in events]
    assert_error(await client.get("/api/my/tasks/events"), UnauthorizedException)


async def test_end_of_a_watched_task_is_seen(auth_client, app, user, tasks):
    task_id = (await auth_client.post("/api/work")).json()
    request = Request({"type": "http", "app": app})
    async with aclosing(routes.watch_my_tasks(user, request)) as events:  # type: ignore[type-var] # it is a generator

        async def next_state() -> str:
            async for event in events:
                if event.data.task_id == task_id:
                    return str(event.data.state)
            raise AssertionError

        assert await next_state() == "pending"
        await tasks.run()
        assert await next_state() == "done"
