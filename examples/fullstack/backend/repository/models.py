"""Database models: users, posts, comments and exports."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

from appkit import BaseTableModel, BaseUser, Versioned
from appkit.repository.filters import search_vector
from pydantic import BaseModel, StringConstraints
from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, func, select
from sqlalchemy.orm import Mapped, column_property, mapped_column, relationship

ExportState = Literal["queued", "running", "done", "failed", "cancelled"]


class Profile(BaseModel):
    """The fields of their profile that users can change."""

    pen_name: Annotated[str, StringConstraints(strip_whitespace=True, max_length=60)] | None = None


class User(BaseUser):
    """A user: appkit's columns, and the name that others see."""

    profile = Profile

    pen_name: Mapped[str | None] = mapped_column(String(60))

    @property
    def name(self) -> str:
        """The pen name, or else the part of the address before the @, so that the full address stays private."""
        return self.pen_name or self.email.partition("@")[0]


class Post(Versioned, BaseTableModel):
    """A post; a draft until it is published. Versioned, so that concurrent edits are detected."""

    __table_args__ = (Index(None, "published_at", "id"), Index(None, "author_id", "id"))

    author_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(String(200))
    subtitle: Mapped[str | None] = mapped_column(String(300))
    content: Mapped[str] = mapped_column(Text)
    published_at: Mapped[datetime | None]

    author: Mapped[User] = relationship(lazy="joined", innerjoin=True)
    if TYPE_CHECKING:
        comment_count: Mapped[int]


class Comment(BaseTableModel):
    """A comment on a published post."""

    __table_args__ = (Index(None, "post_id", "id"),)

    post_id: Mapped[UUID] = mapped_column(ForeignKey("post.id", ondelete="CASCADE"))
    author_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    content: Mapped[str] = mapped_column(String(2000))

    author: Mapped[User] = relationship(lazy="joined", innerjoin=True)


# PostgreSQL only. On SQLite, search scans all posts.
SEARCHED = (Post.title, Post.subtitle, Post.content)
Index("ix_post_search", search_vector(*SEARCHED), postgresql_using="gin").ddl_if(dialect="postgresql")

Post.comment_count = column_property(
    select(func.count(Comment.id)).where(Comment.post_id == Post.id).correlate_except(Comment).scalar_subquery(),
    expire_on_flush=False,  # Otherwise, every flush would expire it.
)


class Export(BaseTableModel):
    """A PDF of a user's posts, from the request until it expires."""

    __table_args__ = (Index(None, "owner_id", "id"),)

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    state: Mapped[ExportState] = mapped_column(default="queued")
    progress: Mapped[int] = mapped_column(default=0)
    step: Mapped[str] = mapped_column(String(300), default="Waiting for its turn")
    expires_at: Mapped[datetime] = mapped_column(index=True)
    size: Mapped[int | None]
    content: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
