"""What happens at the desk."""

from uuid import UUID

from appkit import Event


class ExportRequested(Event):
    """Someone wants their posts as a PDF."""

    export_id: UUID
