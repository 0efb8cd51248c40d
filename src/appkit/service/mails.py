"""Mails about accounts: what they say unless an app or a plugin says it better."""

from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final, Literal

from appkit.core.mail import Mail
from appkit.exceptions import AppKitError
from appkit.repository.user import BaseUser
from appkit.service.base import BaseService

MailKind = Literal[
    "verify_email",
    "account_exists",
    "reset_password",
    "reset_forced",
    "password_changed",
    "change_email",
    "email_changed",
    "account_deleted",
]
"""What an account's mail is about."""

_PAGES: Final[dict[MailKind, str]] = {
    "verify_email": "verify-email",
    "reset_password": "reset-password",
    "reset_forced": "reset-password",
    "change_email": "confirm-email",
}
_BUTTON: Final = (
    '<a href="$link" style="display: inline-block; padding: 0.6rem 1.2rem; border-radius: 0.4rem; '
    'background: #18181b; color: #fff; text-decoration: none">$subject</a>'
)


class MailService(BaseService):
    """Writes the mails that accounts need. Tasks send them.

    Each is a template, `reset_password.txt` say: a line with the subject, and paragraphs, in which `$app`, `$email` and
    `$link` are filled in. `layout.html` stands around them in HTML, `$link` alone in its paragraph becomes a button,
    and a `reset_password.html` replaces the paragraphs. A file in `MAIL_TEMPLATES` comes before appkit's of its name.
    """

    async def write(self, kind: MailKind, user: BaseUser, *, to: str | None = None, token: str | None = None) -> Mail:
        """A mail, as a plugin's `write_mail()` wants it, else as its templates say.

        Links start with `FRONTEND_URL`, never with what a request says its host is, and carry the token behind a `#`,
        which no server's log and no `Referer` shows. Without `FRONTEND_URL`, the token stands for itself.

        Args:
            kind: What it is about.
            user: Whose account it is about.
            to: Where it goes; the account's address unless given.
            token: What the link proves.

        Raises:
            AppKitError: When a template of the app's makes no sense.
        """
        to, link = to or user.email, self._link(kind, token)
        written: Mail | None = await self.plugins.first("write_mail", kind=kind, user=user, to=to, link=link)
        values = {"app": self.settings.app_name, "email": user.email, "link": link or ""}
        return written or self._compose(kind, to, values)

    def _link(self, kind: MailKind, token: str | None) -> str | None:
        url = self.settings.frontend.url
        return f"{url.rstrip('/')}/{_PAGES[kind]}#token={token}" if url and token else token

    def _compose(self, kind: MailKind, to: str, values: dict[str, str]) -> Mail:
        first, _, body = self._read(f"{kind}.txt").partition("\n")
        values["subject"] = _fill(f"{kind}.txt", first.removeprefix("Subject:").strip(), values)
        text = _fill(f"{kind}.txt", body.strip(), values)
        safe = {name: escape(value) for name, value in values.items()}
        html = self._find(f"{kind}.html")
        inner = _to_html(body, values["link"]) if html is None else html.read_text(encoding="utf-8")
        safe["body"] = _fill(f"{kind}.html", inner, safe)
        return Mail(
            to=to, subject=values["subject"], text=text, html=_fill("layout.html", self._read("layout.html"), safe)
        )

    def _read(self, name: str) -> str:
        template = self._find(name) or files("appkit.service").joinpath("templates", name)
        return template.read_text(encoding="utf-8")

    def _find(self, name: str) -> Path | None:
        """The app's own template of this name."""
        directory = self.settings.mail.templates
        return found if directory and (found := directory / name).is_file() else None


def _to_html(body: str, link: str) -> str:
    shown = _BUTTON if "://" in link else "<code>$link</code>"
    paragraphs = (shown if part.strip() == "$link" else escape(part) for part in body.strip().split("\n\n"))
    return "\n".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)


def _fill(name: str, text: str, values: dict[str, str]) -> str:
    try:
        return Template(text).substitute(values)
    except (KeyError, ValueError) as exc:
        known = ", ".join(f"${each}" for each in values)
        raise AppKitError(
            f"The mail template {name} can't be filled in: {exc}. It may use {known}; $$ is a $."
        ) from exc
