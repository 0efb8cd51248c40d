"""What plugins may add to the desk, beside all that they may add to any app."""

from appkit import Settings, hookspec


@hookspec
def check_text(text: str, settings: Settings) -> None:
    """Look at what someone wrote, a title or a comment say, before it is kept. Raise an API error to refuse it."""
