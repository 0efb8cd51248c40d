"""Mails about accounts: what they say unless a plugin says it better."""

from html import escape
from typing import Final, Literal, NamedTuple

from appkit.core.mail import Mail
from appkit.repository.user import BaseUser
from appkit.service.base import BaseService

MailKind = Literal[
    "verify_email", "account_exists", "reset_password", "password_changed", "change_email", "email_changed"
]
"""What an account's mail is about."""


class _Text(NamedTuple):
    subject: str
    before: str
    page: str = ""
    label: str = ""
    after: str = ""


_TEXTS: Final[dict[MailKind, _Text]] = {
    "verify_email": _Text(
        "Verify your e-mail address",
        "Somebody signed up for {app} with this address. If that was you, please verify it:",
        "verify-email",
        "Verify the address",
        "If it wasn't you, there is nothing to do.",
    ),
    "account_exists": _Text(
        "You have an account already",
        "Somebody tried to sign up for {app} with this address, which has an account already. "
        "If that was you, sign in, or ask for a link to set a new password. If it wasn't you, there is nothing to do.",
    ),
    "reset_password": _Text(
        "Set a new password",
        "Somebody asked to set a new password for your account with {app}. If that was you, go on here:",
        "reset-password",
        "Set a new password",
        "If it wasn't you, there is nothing to do: your password stays as it is.",
    ),
    "password_changed": _Text(
        "Your password was changed",
        "The password of your account with {app} was changed, and all other devices were signed out. "
        "If it wasn't you, ask for a link to set a new password at once.",
    ),
    "change_email": _Text(
        "Confirm your new e-mail address",
        "Somebody wants to use this address for their account with {app}. If that was you, please confirm it:",
        "confirm-email",
        "Confirm the address",
        "If it wasn't you, there is nothing to do.",
    ),
    "email_changed": _Text(
        "Your e-mail address was changed",
        "The address of your account with {app} was changed, and this one is no longer used. "
        "If it wasn't you, somebody else has your password: tell us at once.",
    ),
}


class MailService(BaseService):
    """Writes the mails that accounts need. Tasks send them."""

    async def write(self, kind: MailKind, user: BaseUser, *, to: str | None = None, token: str | None = None) -> Mail:
        """A mail, as a plugin's `write_mail()` wants it, else as we do.

        Links start with `FRONTEND_URL`, never with what a request says its host is, and carry the token behind a `#`,
        which no server's log and no `Referer` shows. Without `FRONTEND_URL`, the token stands for itself.

        Args:
            kind: What it is about.
            user: Whose account it is about.
            to: Where it goes; the account's address unless given.
            token: What the link proves.
        """
        to, link = to or user.email, self._link(_TEXTS[kind].page, token)
        written: Mail | None = await self.plugins.first("write_mail", kind=kind, user=user, to=to, link=link)
        return written or _compose(_TEXTS[kind], self.settings.app_name, to, link)

    def _link(self, page: str, token: str | None) -> str | None:
        url = self.settings.frontend.url
        return f"{url.rstrip('/')}/{page}#token={token}" if url and token else token


def _compose(text: _Text, app: str, to: str, link: str | None) -> Mail:
    before = text.before.format(app=app)
    plain = "\n\n".join(part for part in (before, link, text.after) if part)
    shown = f'<a href="{escape(link)}">{escape(text.label)}</a>' if link and "://" in link else f"<code>{link}</code>"
    paragraphs = (escape(before), link and shown, escape(text.after))
    html = "\n".join(f"<p>{part}</p>" for part in paragraphs if part)
    return Mail(to=to, subject=text.subject, text=plain, html=html)
