"""The tables: people, their posts, what others say about them, and the exports they ask for."""

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
    """What people say of themselves."""

    pen_name: Annotated[str, StringConstraints(strip_whitespace=True, max_length=60)] | None = None


class User(BaseUser):
    """A person; appkit's columns, and the name that others see."""

    profile = Profile

    pen_name: Mapped[str | None] = mapped_column(String(60))

    @property
    def name(self) -> str:
        """Their pen name, else the part of the address before the @, so that the whole of it stays private."""
        return self.pen_name or self.email.partition("@")[0]


class Post(Versioned, BaseTableModel):
    """Something to read; a draft until it is published. It counts its changes, for two windows may edit one post."""

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
    """What someone says about a published post."""

    __table_args__ = (Index(None, "post_id", "id"),)

    post_id: Mapped[UUID] = mapped_column(ForeignKey("post.id", ondelete="CASCADE"))
    author_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    content: Mapped[str] = mapped_column(String(2000))

    author: Mapped[User] = relationship(lazy="joined", innerjoin=True)


# SQLite has no such index: its search looks at each post.
SEARCHED = (Post.title, Post.subtitle, Post.content)
Index("ix_post_search", search_vector(*SEARCHED), postgresql_using="gin").ddl_if(dialect="postgresql")

Post.comment_count = column_property(
    select(func.count(Comment.id)).where(Comment.post_id == Post.id).correlate_except(Comment).scalar_subquery(),
    expire_on_flush=False,  # Else every change of a post would forget it.
)


class Export(BaseTableModel):
    """A PDF of someone's posts, from the moment it is asked for until it expires."""

    __table_args__ = (Index(None, "owner_id", "id"),)

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    state: Mapped[ExportState] = mapped_column(default="queued")
    progress: Mapped[int] = mapped_column(default=0)
    step: Mapped[str] = mapped_column(String(300), default="Waiting for its turn")
    expires_at: Mapped[datetime] = mapped_column(index=True)
    size: Mapped[int | None]
    content: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
