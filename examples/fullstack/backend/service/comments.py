"""Comments on published posts."""

from uuid import UUID

from appkit import BaseService, CursorQuery, KeysetPage, Repository

from exceptions import NotPublishedException
from repository.models import Comment
from service.posts import PostService


class CommentService(BaseService):
    """Lists and adds comments."""

    async def on_post(self, post_id: UUID, reader_id: UUID | None, query: CursorQuery) -> KeysetPage[Comment]:
        """The comments on a post, oldest first.

        Raises:
            PostNotFoundException: When there is no such post, or it is somebody else's draft.
        """
        post = await PostService(self.db).read(post_id, reader_id)
        return await Repository(self.db, Comment).page(query, Comment.post_id == post.id)

    async def add(self, post_id: UUID, author_id: UUID, content: str) -> Comment:
        """Comment on a post.

        Raises:
            PostNotFoundException: When there is no such post, or it is somebody else's draft.
            NotPublishedException: When it is one's own draft.
        """
        post = await PostService(self.db).read(post_id, author_id)
        if post.published_at is None:
            raise NotPublishedException
        self.plugins.collect("check_text", text=content, settings=self.settings)
        comment = await self.save(Comment(post_id=post.id, author_id=author_id, content=content))
        await self.db.refresh(comment)
        return comment
