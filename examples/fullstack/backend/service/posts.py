"""Posts: who may write, read, change and publish them."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from appkit import BaseService
from appkit.repository.base import utcnow
from appkit.repository.pagination import KeysetPage, keyset_page
from sqlalchemy import select

from exceptions import AlreadyPublishedException, NotYourPostException, PostNotFoundException
from repository.models import Post


class PostService(BaseService):
    """What people do with posts. Only its author may change one.

    Raises:
        PostNotFoundException: When there is no such post, or it is somebody else's draft.
        NotYourPostException: When somebody else published it.
    """

    async def published(self, cursor: str | None, size: int) -> KeysetPage[Post]:
        """What everybody may read, the latest first."""
        posts = select(Post).where(Post.published_at.is_not(None))
        return await keyset_page(
            self.db, posts, order=[Post.published_at.desc(), Post.id.desc()], cursor=cursor, size=size
        )

    async def written_by(self, author_id: UUID, cursor: str | None, size: int) -> KeysetPage[Post]:
        """Everything that someone wrote, drafts included, the latest first."""
        posts = select(Post).where(Post.author_id == author_id)
        return await keyset_page(self.db, posts, order=[Post.id.desc()], cursor=cursor, size=size)

    async def read(self, post_id: UUID, reader_id: UUID | None) -> Post:
        """A published post, or one's own draft."""
        post = await self.db.get(Post, post_id)
        if post is None or (post.published_at is None and post.author_id != reader_id):
            raise PostNotFoundException
        return post

    async def write(self, author_id: UUID, title: str, subtitle: str | None, content: str) -> Post:
        """Start a draft."""
        self._check(title, subtitle, content)
        post = await self.save(Post(author_id=author_id, title=title, subtitle=subtitle, content=content))
        await self.db.refresh(post)
        return post

    async def edit(self, post_id: UUID, author_id: UUID, changes: Mapping[str, Any]) -> Post:
        """Change what a post says."""
        post = await self._own(post_id, author_id)
        self._check(*changes.values())
        for name, value in changes.items():
            setattr(post, name, value)
        return await self.save(post)

    async def publish(self, post_id: UUID, author_id: UUID) -> Post:
        """Let everybody read a post.

        Raises:
            AlreadyPublishedException: When it was published before.
        """
        post = await self._own(post_id, author_id)
        if post.published_at is not None:
            raise AlreadyPublishedException
        post.published_at = utcnow()
        return await self.save(post)

    async def remove(self, post_id: UUID, author_id: UUID) -> None:
        """Delete a post, and its comments with it."""
        await self.delete(await self._own(post_id, author_id))

    async def _own(self, post_id: UUID, author_id: UUID) -> Post:
        post = await self.read(post_id, author_id)
        if post.author_id != author_id:
            raise NotYourPostException
        return post

    def _check(self, *texts: str | None) -> None:
        """Let plugins refuse what they find in a text."""
        for text in filter(None, texts):
            self.plugins.collect("check_text", text=text, settings=self.settings)
