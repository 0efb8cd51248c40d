"""What happens at the desk."""

from uuid import UUID

from appkit import Event


class CommentAdded(Event):
    """Someone commented on a post."""

    comment_id: UUID


class ExportRequested(Event):
    """Someone wants their posts as a PDF."""

    export_id: UUID
