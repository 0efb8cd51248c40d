"""Schemas of requests and responses."""

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
    """The author of a post or comment."""

    id: UUID
    name: str


class PostCreate(Schema):
    """A new draft."""

    title: Title
    subtitle: Subtitle | None = None
    content: Content


class PostUpdate(Schema):
    """Changes to a post. Fields that are not sent stay as they are."""

    title: Title = ""
    subtitle: Subtitle | None = None
    content: Content = ""
    version: int | None = None
    """The version that was edited. If the post has a newer one, the change is refused."""


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
    """How much a user has written."""

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
    """An export and its progress."""

    id: UUID
    state: ExportState
    progress: int
    step: str
    created_at: datetime
    expires_at: datetime
    size: int | None
