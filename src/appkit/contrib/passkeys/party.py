"""Whom passkeys are for: browsers use one on the pages it was made for, and nowhere else."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request

from appkit import SettingsGroup, app_of


class PasskeysSettings(SettingsGroup):
    """Signing in with passkeys."""

    rp_id: str | None = None
    """The host that passkeys are for, or a domain that it is in; unset, the host of `FRONTEND_URL`. Changing it makes
    all passkeys worthless."""


@dataclass(frozen=True)
class RelyingParty:
    """An app, as browsers and authenticators know it."""

    id: str
    origins: list[str]
    """The pages that may use its passkeys."""


def get_party(request: Request) -> RelyingParty:
    """The app that a request came to, by its settings: what the request says counts in development only."""
    settings = app_of(request).settings
    pages = [urlsplit(url) for url in (settings.frontend.url or str(request.base_url), *settings.cors.origins)]
    return RelyingParty(
        settings.group(PasskeysSettings).rp_id or pages[0].hostname or "",
        [f"{page.scheme}://{page.netloc}" for page in pages],
    )
