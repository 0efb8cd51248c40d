"""Exports: PDFs of a user's posts, requested here and created by a task."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from appkit import BaseService
from appkit.repository.base import utcnow
from sqlalchemy import delete, select, update

from domain.events import ExportRequested
from exceptions import ExportNotFoundException, ExportNotReadyException
from repository.models import Export, ExportState, Post, User

KEPT = timedelta(days=7)
ACTIVE: tuple[ExportState, ...] = ("queued", "running")


class ExportService(BaseService):
    """Exports, for their owners and for the task that creates them."""

    async def request(self, owner_id: UUID) -> Export:
        """Request a PDF of all posts of a user. The task starts after the commit."""
        export = await self.save(Export(owner_id=owner_id, expires_at=utcnow() + KEPT))
        self.emit(ExportRequested(export_id=export.id))
        return export

    async def of(self, owner_id: UUID) -> Sequence[Export]:
        """The exports of a user, newest first."""
        exports = select(Export).where(Export.owner_id == owner_id, Export.expires_at > utcnow())
        return (await self.db.scalars(exports.order_by(Export.id.desc()).limit(20))).all()

    async def find(self, export_id: UUID, owner_id: UUID) -> Export:
        """One export, without its file.

        Raises:
            ExportNotFoundException: When there is none, it is somebody else's, or it has expired.
        """
        export = await self.db.get(Export, export_id)
        if export is None or export.owner_id != owner_id or export.expires_at <= utcnow():
            raise ExportNotFoundException
        return export

    async def file(self, export_id: UUID, owner_id: UUID) -> bytes:
        """The PDF.

        Raises:
            ExportNotFoundException: When there is none, it is somebody else's, or it has expired.
            ExportNotReadyException: When it is not finished, or has failed.
        """
        export = await self.find(export_id, owner_id)
        content = await self.db.scalar(select(Export.content).where(Export.id == export.id))
        if content is None:
            raise ExportNotReadyException
        return content

    async def cancel(self, export_id: UUID, owner_id: UUID) -> Export:
        """Cancel an export, unless it has ended. Its task stops at the next progress report.

        Raises:
            ExportNotFoundException: When there is none, it is somebody else's, or it has expired.
        """
        export = await self.find(export_id, owner_id)
        await self.report(export.id, "cancelled", 0, "Cancelled")
        await self.db.refresh(export)
        return export

    async def material(self, export_id: UUID) -> tuple[User, Sequence[Post]]:
        """The owner of an export, and the posts to put into it, oldest first."""
        owner = await self.db.scalar(
            select(User).join(Export, Export.owner_id == User.id).where(Export.id == export_id)
        )
        if owner is None:
            raise ExportNotFoundException
        posts = await self.db.scalars(select(Post).where(Post.author_id == owner.id).order_by(Post.id))
        return owner, posts.all()

    async def report(self, export_id: UUID, state: ExportState, progress: int, step: str) -> bool:
        """Report progress. False when the export has ended, for example because it was cancelled."""
        at_work = update(Export).where(Export.id == export_id, Export.state.in_(ACTIVE))
        changed = at_work.values(state=state, progress=progress, step=step).returning(Export.id)
        return await self.db.scalar(changed) is not None

    async def finish(self, export_id: UUID, content: bytes) -> None:
        """Store the PDF."""
        if await self.report(export_id, "done", 100, "Ready"):
            kept = update(Export).where(Export.id == export_id).values(content=content, size=len(content))
            await self.db.execute(kept)

    async def purge(self) -> None:
        """Delete all expired exports."""
        await self.db.execute(delete(Export).where(Export.expires_at <= utcnow()))
