"""Exports: the PDF is made here, in a thread, while the page that asked for it shows how far it is."""

from anyio import to_thread
from appkit import TaskContext, TaskRouter
from appkit.repository.base import utcnow

from domain.book import Book
from domain.events import ExportRequested
from repository.models import ExportState
from service.exports import ExportService

router = TaskRouter()


@router.on(ExportRequested)
async def make_export(event: ExportRequested, ctx: TaskContext) -> None:
    """Set somebody's posts as a book, one after the other. It may run twice, and then makes the same book again."""

    async def report(state: ExportState, progress: int, step: str) -> None:
        await ctx.progress(progress, step)
        async with ctx.session() as db:
            await ExportService(db).report(event.export_id, state, progress, step)

    async with ctx.read_session(primary=True) as db:
        owner, posts = await ExportService(db).material(event.export_id)
    try:
        book = await to_thread.run_sync(Book, "Collected posts", owner.name, utcnow().date())
        for number, post in enumerate(posts):
            await report("running", round(90 * number / len(posts)), f"Setting “{post.title}”")
            await to_thread.run_sync(book.add_post, post.title, post.subtitle, post.published_at, post.content)
        await report("running", 90, "Binding")
        content = await to_thread.run_sync(book.bind)
    except Exception:
        await report("failed", 0, "Something went wrong. It will be tried again.")
        raise
    async with ctx.session() as db:
        await ExportService(db).finish(event.export_id, content)
