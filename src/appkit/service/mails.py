"""MailService: composes the mails about accounts. Tasks send the mails."""

from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from appkit.core.mail import Mail
from appkit.exceptions import AppKitError
from appkit.repository.user import BaseUser
from appkit.service.base import BaseService
from appkit.service.hookspecs import MailKind

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
    """Composes the mails about accounts from templates.

    A template such as `reset_password.txt` has a line with the subject, and then paragraphs. The text may have
    the placeholders `$app`, `$email` and `$link`. For the HTML part, the paragraphs are put into `layout.html`, where a
    paragraph with only `$link` becomes a button. A file `reset_password.html` replaces the paragraphs in the HTML
    part. A file in `MAIL_TEMPLATES` replaces appkit's file with the same name.
    """

    async def write(self, kind: MailKind, user: BaseUser, *, to: str | None = None, token: str | None = None) -> Mail:
        """Compose a mail with a plugin's `write_mail()`. If no plugin writes the mail, the templates are used.

        Links start with `FRONTEND_URL`, never with the `Host` of a request. Browsers don't send what follows a `#`, so
        the token appears neither in server logs nor in `Referer`. Without `FRONTEND_URL`, the mail has only the token.

        Without `to`, the recipient is the account's e-mail address.

        Raises:
            AppKitError: When one of the app's templates can't be filled in.
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
            f"The mail template {name} can't be filled in: {exc}. The template may use {known}. Write $$ for a $."
        ) from exc
