"""Hooks that this app adds to appkit's own."""

from appkit import Settings, hookspec


@hookspec
def check_text(text: str, settings: Settings) -> None:
    """Check a text, such as a title or a comment, before it is saved. Raise an API error to refuse it."""
