"""Mail: messages, and the mailers that send them (console, memory, SMTP)."""

import sys
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime, make_msgid, parseaddr
from typing import Annotated, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from appkit.core.settings import Settings
from appkit.exceptions import AppKitError


class Mail(BaseModel):
    """A message to one person.

    Raises:
        pydantic.ValidationError: When `to` is not one plain e-mail address, or `subject` has a line break. With these,
            an attacker could add headers or recipients.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    to: Annotated[str, Field(pattern=r"^[^\s\x00-\x1f\x7f,;:<>()@]+@[^\s\x00-\x1f\x7f,;:<>()@]+$")]
    subject: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]
    text: str = Field(repr=False)
    """The message as plain text. The `repr` omits the text, because its links may be secrets."""
    html: str | None = Field(default=None, repr=False)
    """The same message as HTML."""


class Mailer(Protocol):
    """Sends mail."""

    async def send(self, mail: Mail) -> None:
        """Send the mail, or raise an exception."""


class ConsoleMailer:
    """Prints mail to stderr, for development."""

    def __init__(self, sender: str) -> None:
        self._sender = sender

    async def send(self, mail: Mail) -> None:
        """Print the mail."""
        head = f"From: {self._sender}\nTo: {mail.to}\nSubject: {mail.subject}"
        print(f"\n{head}\n\n{mail.text}\n", file=sys.stderr, flush=True)  # noqa: T201  # Printing is its purpose.


class MemoryMailer:
    """Collects mail in a list, for tests."""

    def __init__(self) -> None:
        self.outbox: list[Mail] = []

    async def send(self, mail: Mail) -> None:
        """Add the mail to `outbox`."""
        self.outbox.append(mail)


class SmtpMailer:
    """Sends mail to an SMTP server. TLS is used if the server offers TLS, and required if the URL has a password.

    Args:
        timeout: Seconds to wait for each answer of the server.

    Raises:
        AppKitError: When the package aiosmtplib is missing.
    """

    def __init__(self, url: SplitResult, sender: str, *, timeout: float = 20.0) -> None:
        try:
            import aiosmtplib
        except ModuleNotFoundError as exc:
            raise AppKitError("MAIL_URL needs a package for SMTP: pip install 'fastapi-appkit[mail]'") from exc
        self._deliver = aiosmtplib.send
        self._url = url
        self._sender = sender
        self._timeout = timeout

    async def send(self, mail: Mail) -> None:
        """Send the mail to the server.

        Raises:
            aiosmtplib.SMTPException: When the server can't be reached or refuses the mail.
        """
        url = self._url
        await self._deliver(
            compose(mail, self._sender),
            hostname=url.hostname or "localhost",
            port=url.port,
            username=unquote(url.username) if url.username else None,
            password=unquote(url.password) if url.password else None,
            use_tls=url.scheme == "smtps",
            start_tls=True if url.password and url.scheme == "smtp" else None,
            timeout=self._timeout,
        )


def create_mailer(settings: Settings) -> Mailer:
    """Create the mailer for the scheme of `MAIL_URL`.

    Raises:
        AppKitError: When the scheme is unknown, or a package is missing.
    """
    url = urlsplit(settings.mail.url)
    match url.scheme:
        case "console":
            return ConsoleMailer(settings.mail.sender)
        case "memory":
            return MemoryMailer()
        case "smtp" | "smtps":
            return SmtpMailer(url, settings.mail.sender)
    raise AppKitError("MAIL_URL has an unknown scheme. Use console://, smtp://, smtps:// or memory://.")


def compose(mail: Mail, sender: str) -> EmailMessage:
    """Compose the message: plain text, and the HTML as an alternative."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = mail.subject
    message["Date"] = localtime()
    # Without a domain, Python looks up the host's name by DNS, which blocks.
    message["Message-ID"] = make_msgid(domain=parseaddr(sender)[1].partition("@")[2] or "localhost")
    message["Auto-Submitted"] = "auto-generated"  # Prevents out-of-office replies (RFC 3834, section 5).
    message.set_content(mail.text)
    if mail.html is not None:
        message.add_alternative(mail.html, subtype="html")
    return message
