"""Applause for posts."""

from uuid import UUID

from appkit import BaseService, Repository

from repository.models import Applause
from service.posts import PostService


class ApplauseService(BaseService):
    """Applauds posts, and counts the readers who applauded.

    Raises:
        PostNotFoundException: When there is no such post, or it is somebody else's draft.
    """

    async def give(self, post_id: UUID, reader_id: UUID) -> int:
        """Applaud a post. Each reader counts once. Returns how many readers applauded."""
        post = await PostService(self.db).read(post_id, reader_id)
        given = {"post_id": post.id, "reader_id": reader_id}
        await Repository(self.db, Applause).get_or_create(given, on=[Applause.post_id, Applause.reader_id])
        return await self.count(post_id)

    async def count(self, post_id: UUID) -> int:
        """Count the readers who applauded."""
        return await Repository(self.db, Applause).count(Applause.post_id == post_id)
