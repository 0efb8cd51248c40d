"""LISTEN and NOTIFY: a commit of another process wakes the worker immediately."""

# The fixture `app` has no type that tests can import, and so its decorators have none.
# mypy: disable-error-code="untyped-decorator"

import asyncio

import pytest
from sqlalchemy import event, text

from appkit.tasks.router import enqueue


@pytest.fixture(autouse=True)
def _postgresql_only(database_url: str) -> None:
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite has no NOTIFY.")


@pytest.fixture(params=["asyncpg", "psycopg"])
async def pair(request, make_app, database_url):
    """A process with a worker, and a process that only writes."""
    url = database_url.replace("asyncpg", request.param)
    worker, writer = [await make_app(poll_interval=600, lease=6000) for _ in range(2)]
    if request.param == "psycopg":
        await worker.database.dispose()
        worker = type(worker)(url, poll_interval=600, lease=6000)
    yield worker, writer
    await worker.database.dispose()


async def listening_pid(app, before: int = 0) -> int:
    """Wait for a LISTEN connection with another server process than before, and return the process id."""
    pids = text("SELECT pid FROM pg_stat_activity WHERE query ILIKE 'listen %' AND datname = current_database()")
    async with asyncio.timeout(60):
        while True:
            async with app.database.read_session() as db:
                if (pid := int(await db.scalar(pids) or before)) != before:
                    return pid
            await asyncio.sleep(0.02)


async def test_commit_of_another_process_wakes_the_worker(pair):
    worker, writer = pair
    started = asyncio.Event()

    @worker.router.task
    async def work() -> None:
        started.set()

    async def start_a_task() -> None:
        started.clear()
        async with writer.session() as db:
            enqueue(db, work)
        await asyncio.wait_for(started.wait(), 60)  # The worker polls every ten minutes.

    async with worker.working():
        pid = await listening_pid(writer)
        for _ in range(2):  # The poll after each LISTEN may find the first task.
            await start_a_task()
        async with writer.session() as db:
            await db.execute(text(f"SELECT pg_terminate_backend({pid})"))
        await listening_pid(writer, before=pid)  # The worker reconnects.
        for _ in range(2):  # The poll after each LISTEN may find the first task.
            await start_a_task()


@pytest.mark.slow
async def test_listener_reconnects_after_the_server_was_killed(new_postgres, make_app):
    server = new_postgres()
    server.run("initdb", "-D", str(server.folder / "data"), "-A", "trust", "-U", "postgres", "-N")
    server.start()
    make = type(await make_app())
    worker, writer = (make(server.url, poll_interval=600, lease=6000) for _ in range(2))
    await writer.create_tables()
    started = asyncio.Event()

    @worker.router.task
    async def work() -> None:
        started.set()

    async with worker.working():
        await listening_pid(writer)
        server.kill()
        server.start()
        await writer.database.dispose()
        await listening_pid(writer)
        async with writer.session() as db:
            enqueue(db, work)
        await asyncio.wait_for(started.wait(), 60)  # Polls are ten minutes apart.
    await worker.database.dispose()
    await writer.database.dispose()


@pytest.mark.parametrize(
    ("notify", "works", "notified"), [("auto", False, 1), ("auto", True, 0), ("on", True, 1), ("off", False, 0)]
)
async def test_commit_notifies_once_where_needed(make_app, notify, works, notified):
    app = await make_app(notify=notify)
    app.context.works = works

    @app.router.task
    async def work() -> None: ...

    statements = []
    event.listen(
        app.database.engine.sync_engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )
    async with app.session() as db:
        async with db.begin_nested():
            enqueue(db, work)
        enqueue(db, work)

    assert sum("pg_notify" in statement for statement in statements) == notified


async def test_polling_alone_finds_all_tasks(make_app):
    app, writer = await make_app(notify="off", poll_interval=0.2), await make_app(notify="off")

    @app.router.task
    async def work() -> None: ...

    async with app.working() as broker:
        async with writer.session() as db:
            enqueue(db, work)
        await app.until(lambda rows: rows[0].state == "done")
        assert broker._listener is None
