import asyncio
import json
from datetime import timedelta
from uuid import UUID

from appkit.repository.base import utcnow
from sqlalchemy import select, update

from domain.book import Book
from exceptions import ExportNotFoundException, ExportNotReadyException
from repository.models import Export
from service.exports import ExportService
from tasks.exports import purge_exports, router


async def test_export_is_created_in_the_background(write, auth_client, tasks, assert_error):
    await write("One", publish=True)
    await write("Two")
    requested = await auth_client.post("/api/exports")
    export = requested.json()
    url = f"/api/exports/{export['id']}"
    assert requested.status_code == 201
    assert (export["state"], export["progress"], export["size"]) == ("queued", 0, None)
    assert_error(await auth_client.get(f"{url}/file"), ExportNotReadyException)

    await tasks.run()

    done = (await auth_client.get(url)).json()
    file = await auth_client.get(f"{url}/file")
    assert (done["state"], done["progress"]) == ("done", 100)
    assert file.headers["content-type"] == "application/pdf"
    assert "attachment" in file.headers["content-disposition"]
    assert file.content.startswith(b"%PDF-")
    assert len(file.content) == done["size"]
    assert [item["id"] for item in (await auth_client.get("/api/exports")).json()] == [export["id"]]


async def test_export_reports_progress_at_each_post(write, auth_client, tasks, monkeypatch):
    reports: list[tuple[str, int, str]] = []
    report = ExportService.report

    async def listen(self, export_id, state, progress, step):
        reports.append((state, progress, step))
        return await report(self, export_id, state, progress, step)

    monkeypatch.setattr(ExportService, "report", listen)
    for title in ("One", "Two", "Three"):
        await write(title)
    await auth_client.post("/api/exports")
    await tasks.run()
    assert reports == [
        ("running", 0, "Setting “One”"),
        ("running", 30, "Setting “Two”"),
        ("running", 60, "Setting “Three”"),
        ("running", 90, "Binding"),
        ("done", 100, "Ready"),
    ]


async def test_failed_export_is_retried(write, auth_client, tasks, monkeypatch):
    await write()
    export = (await auth_client.post("/api/exports")).json()
    with monkeypatch.context() as broken:
        broken.setattr(Book, "bind", lambda _: 1 / 0)
        await tasks.run(check=False)
    waiting = (await auth_client.get(f"/api/exports/{export['id']}")).json()
    assert (waiting["state"], waiting["step"]) == ("queued", "Waiting for another try")


async def test_export_does_not_block_the_event_loop(write, auth_client, tasks, never_blocks):
    await write(content="Words and *more* words.\n\n" * 2000)
    await auth_client.post("/api/exports")
    await tasks.run()


async def test_export_is_visible_to_its_owner_only(auth_client, other, assert_error):
    export = (await auth_client.post("/api/exports")).json()
    assert_error(await other.get(f"/api/exports/{export['id']}"), ExportNotFoundException)
    assert_error(await other.get(f"/api/exports/{export['id']}/file"), ExportNotFoundException)
    assert (await other.get("/api/exports")).json() == []


async def test_expired_export_is_a_404(auth_client, db, assert_error):
    export = (await auth_client.post("/api/exports")).json()
    await db.execute(update(Export).values(expires_at=utcnow() - timedelta(seconds=1)))
    assert_error(await auth_client.get(f"/api/exports/{export['id']}"), ExportNotFoundException)
    assert (await auth_client.get("/api/exports")).json() == []


async def test_purge_deletes_expired_exports(auth_client, tasks, db):
    old, new = [(await auth_client.post("/api/exports")).json()["id"] for _ in range(2)]
    await tasks.run()
    await db.execute(update(Export).where(Export.id == UUID(old)).values(expires_at=utcnow() - timedelta(seconds=1)))
    await purge_exports.kiq()
    await tasks.run()
    assert [str(kept) for kept in await db.scalars(select(Export.id))] == [new]


def test_exports_are_purged_each_night():
    assert [(schedule.name, schedule.cron) for schedule in router.schedules] == [
        ("exports:purge_exports", "40 3 * * *")
    ]


async def test_cancelled_export_is_not_created(write, auth_client, tasks, other, assert_error):
    await write()
    url = f"/api/exports/{(await auth_client.post('/api/exports')).json()['id']}"
    assert_error(await other.post(f"{url}/cancel"), ExportNotFoundException)
    cancelled = (await auth_client.post(f"{url}/cancel")).json()
    assert (cancelled["state"], cancelled["step"]) == ("cancelled", "Cancelled")
    await tasks.run()
    assert (await auth_client.get(url)).json() == cancelled
    assert_error(await auth_client.get(f"{url}/file"), ExportNotReadyException)


async def test_finished_export_cannot_be_cancelled(auth_client, tasks):
    url = f"/api/exports/{(await auth_client.post('/api/exports')).json()['id']}"
    await tasks.run()
    assert (await auth_client.post(f"{url}/cancel")).json()["state"] == "done"
    assert (await auth_client.get(f"{url}/file")).is_success


async def test_stream_of_exports_ends_when_none_is_in_progress(write, auth_client, tasks):
    for number in range(5):
        await write(f"Post {number}", content="Words.\n\n" * 200)
    await auth_client.post("/api/exports")
    following = asyncio.create_task(auth_client.get("/api/exports/events"))
    await tasks.run()
    answer = await following
    assert answer.headers["content-type"].startswith("text/event-stream")
    shown = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data")]
    states = [exports[0]["state"] for exports in shown]
    assert states[-1] == "done"
    assert sorted(exports[0]["progress"] for exports in shown) == [exports[0]["progress"] for exports in shown]


async def test_stream_of_exports_requires_sign_in(client):
    assert (await client.get("/api/exports/events")).status_code == 401
