"""What requests hold, and what answers show."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from appkit import Schema
from pydantic import StringConstraints

from repository.models import ExportState

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Subtitle = Annotated[str, StringConstraints(strip_whitespace=True, max_length=300)]
Content = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]


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
    version: int | None = None
    """The one that the change was made to: a later one is not written over."""


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
    version: int


class FiguresSchema(Schema):
    """What someone has to show for it."""

    drafts: int
    published: int
    comments: int


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
    state: ExportState
    progress: int
    step: str
    created_at: datetime
    expires_at: datetime
    size: int | None
