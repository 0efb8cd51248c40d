"""Posts: write, read, change and publish them."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from appkit import BaseService, KeysetPage, OffsetPage, Repository
from appkit.repository.base import utcnow
from appkit.repository.pagination import keyset_page
from sqlalchemy import func, select

from exceptions import AlreadyPublishedException, NotYourPostException, PostNotFoundException
from repository.models import Comment, Post
from repository.queries import FeedQuery, OwnPostsQuery


class Figures(NamedTuple):
    """How much a user has written."""

    drafts: int
    published: int
    comments: int


class PostService(BaseService):
    """Manages posts. Only its author may change one.

    Raises:
        PostNotFoundException: When there is no such post, or it is somebody else's draft.
        NotYourPostException: When somebody else published it.
    """

    async def published(self, query: FeedQuery) -> KeysetPage[Post]:
        """The published posts, newest first."""
        posts = select(Post).where(Post.published_at.is_not(None), *query.where())
        return await keyset_page(
            self.db, posts, order=[Post.published_at.desc(), Post.id.desc()], cursor=query.cursor, size=query.size
        )

    async def written_by(self, author_id: UUID, query: OwnPostsQuery) -> OffsetPage[Post]:
        """The posts of a user, drafts included."""
        return await Repository(self.db, Post).page(query, Post.author_id == author_id)

    async def figures(self, author_id: UUID) -> Figures:
        """The number of a user's posts, and of the comments on them."""
        counted = select(func.count(), func.count(Post.published_at)).where(Post.author_id == author_id)
        comments = (
            select(func.count(Comment.id)).join(Post, Post.id == Comment.post_id).where(Post.author_id == author_id)
        )
        posts, published = (await self.db.execute(counted)).one()
        return Figures(posts - published, published, await self.db.scalar(comments) or 0)

    async def read(self, post_id: UUID, reader_id: UUID | None) -> Post:
        """A published post, or the reader's own draft."""
        post = await self.db.get(Post, post_id)
        if post is None or (post.published_at is None and post.author_id != reader_id):
            raise PostNotFoundException
        return post

    async def write(self, author_id: UUID, title: str, subtitle: str | None, content: str) -> Post:
        """Create a draft."""
        self._check(title, subtitle, content)
        post = await self.save(Post(author_id=author_id, title=title, subtitle=subtitle, content=content))
        await self.db.refresh(post)
        return post

    async def edit(
        self, post_id: UUID, author_id: UUID, changes: Mapping[str, Any], version: int | None = None
    ) -> Post:
        """Change a post.

        Raises:
            StaleVersionException: When the post has a newer version than the edited one.
        """
        post = await self._own(post_id, author_id)
        self._check(*changes.values())
        return await Repository(self.db, Post).update(post, changes, expected_version=version)

    async def publish(self, post_id: UUID, author_id: UUID) -> Post:
        """Publish a post.

        Raises:
            AlreadyPublishedException: When it is already published.
        """
        post = await self._own(post_id, author_id)
        if post.published_at is not None:
            raise AlreadyPublishedException
        post.published_at = utcnow()
        return await self.save(post)

    async def remove(self, post_id: UUID, author_id: UUID) -> None:
        """Delete a post and its comments."""
        await self.delete(await self._own(post_id, author_id))

    async def _own(self, post_id: UUID, author_id: UUID) -> Post:
        post = await self.read(post_id, author_id)
        if post.author_id != author_id:
            raise NotYourPostException
        return post

    def _check(self, *texts: str | None) -> None:
        """Let plugins check the texts."""
        for text in filter(None, texts):
            self.plugins.collect("check_text", text=text, settings=self.settings)
