"""The app's events."""

from uuid import UUID

from appkit import Event


class ExportRequested(Event):
    """A user requested a PDF of their posts."""

    export_id: UUID
