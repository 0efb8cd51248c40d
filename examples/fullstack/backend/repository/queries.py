"""Allow-lists of filters and sort orders, for lists of posts."""

from typing import Annotated, Any, ClassVar

from appkit import CursorQuery, PageQuery, Where
from sqlalchemy import ColumnElement, func

from repository.models import SEARCHED, Post

Words = Annotated[str | None, Where.search(*SEARCHED)]


def _is_published(wanted: bool) -> ColumnElement[bool]:
    return Post.published_at.is_not(None) if wanted else Post.published_at.is_(None)


class FeedQuery(CursorQuery):
    """Query of the published posts."""

    q: Words = None


class OwnPostsQuery(PageQuery):
    """Query of a user's own posts."""

    sortable: ClassVar[dict[str, Any]] = {
        "title": func.lower(Post.title),
        "updated_at": Post.updated_at,
        "comment_count": Post.comment_count,
    }
    default_sort = "-updated_at"

    q: Words = None
    published: Annotated[bool | None, Where(_is_published)] = None
