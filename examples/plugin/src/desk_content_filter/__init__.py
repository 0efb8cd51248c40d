"""A content filter for the desk: refuses posts and comments with words that nobody should read there."""

import re

from appkit import AppKit, Check, Settings, SettingsGroup, UnprocessableException, hookimpl


class ContentFilterSettings(SettingsGroup):
    """What is not let through."""

    words: tuple[str, ...] = ()
    """JSON list of whole words, in any case."""


class RefusedWordException(UnprocessableException):
    """The text has a word in it that is not let through."""

    internal_code = 42280
    detail = "Say it in other words."


@hookimpl
def register_settings() -> dict[str, type[SettingsGroup]]:
    """Read CONTENT_FILTER_WORDS."""
    return {"content_filter": ContentFilterSettings}


@hookimpl
def register_checks() -> list[Check]:
    """Say when there is nothing to do."""
    return [Check("FILTER001", "The content filter lets everything through.", "Set CONTENT_FILTER_WORDS.", find_idle)]


@hookimpl(optionalhook=True)  # It is the desk's: beside another app, there is nothing to do.
def check_text(text: str, settings: Settings) -> None:
    """Refuse the words."""
    words = settings.group(ContentFilterSettings).words
    if words and (found := re.search(rf"\b(?:{'|'.join(map(re.escape, words))})\b", text, re.IGNORECASE)):
        raise RefusedWordException(f"“{found[0]}” is not let through here. {RefusedWordException.detail}")


def find_idle(kit: AppKit) -> list[str]:
    """Whether there is no word to look for."""
    return [] if kit.settings.group(ContentFilterSettings).words else ["CONTENT_FILTER_WORDS is empty"]
