"""What requests hold, and what answers show."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from appkit import Schema
from pydantic import Field, StringConstraints

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Subtitle = Annotated[str, StringConstraints(strip_whitespace=True, max_length=300)]
Content = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]


class PageQuery(Schema):
    """Which part of a list is wanted."""

    cursor: str | None = None
    size: int = Field(default=20, ge=1, le=100)


class AuthorSchema(Schema):
    """Whose work it is."""

    id: UUID
    name: str


class PostCreate(Schema):
    """A new draft."""

    title: Title
    subtitle: Subtitle | None = None
    content: Content


class PostUpdate(Schema):
    """What is to change; what is left out stays as it is."""

    title: Title = ""
    subtitle: Subtitle | None = None
    content: Content = ""


class PostSchema(Schema):
    """A post."""

    id: UUID
    title: str
    subtitle: str | None
    content: str
    author: AuthorSchema
    published_at: datetime | None
    created_at: datetime
    updated_at: datetime
    comment_count: int


class CommentCreate(Schema):
    """A new comment."""

    content: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class CommentSchema(Schema):
    """A comment."""

    id: UUID
    content: str
    author: AuthorSchema
    created_at: datetime


class ExportSchema(Schema):
    """How far an export is."""

    id: UUID
    state: Literal["queued", "running", "done", "failed"]
    progress: int
    step: str
    created_at: datetime
    expires_at: datetime
    size: int | None
