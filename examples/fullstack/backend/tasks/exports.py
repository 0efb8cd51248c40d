"""Tasks that create and delete exports. The PDF is created in a thread, with progress reports."""

from contextlib import closing

from anyio import to_thread
from appkit import TaskContext, TaskRouter, TaskSession
from appkit.repository.base import utcnow

from domain.book import Book
from domain.events import ExportRequested
from repository.models import ExportState
from service.exports import ExportService

router = TaskRouter()


@router.on(ExportRequested)
async def make_export(event: ExportRequested, ctx: TaskContext, db: TaskSession) -> None:
    """Typeset a user's posts as a PDF, post by post. It is stored in the transaction that completes the task."""

    async def report(state: ExportState, progress: int, step: str) -> bool:
        await ctx.progress(progress, step)
        async with ctx.session() as now:
            return await ExportService(now).report(event.export_id, state, progress, step)

    async with ctx.session() as before:
        owner, posts = await ExportService(before).material(event.export_id)
    try:
        with closing(await to_thread.run_sync(Book, "Collected posts", owner.name, utcnow().date())) as book:
            for number, post in enumerate(posts):
                if not await report("running", round(90 * number / len(posts)), f"Setting “{post.title}”"):
                    return
                await to_thread.run_sync(book.add_post, post.title, post.subtitle, post.published_at, post.content)
            await report("running", 90, "Binding")
            content = await to_thread.run_sync(book.bind)
    except Exception:
        last = ctx.attempt >= ctx.settings.tasks.max_attempts
        await report("failed" if last else "queued", 0, "It could not be made" if last else "Waiting for another try")
        raise
    await ExportService(db).finish(event.export_id, content)


@router.cron("40 3 * * *")
async def purge_exports(db: TaskSession) -> None:
    """Delete expired exports, each night."""
    await ExportService(db).purge()
