"""Mail: printed, collected, or sent to an SMTP server."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest
import trustme
from aiosmtpd.handlers import Message
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import ValidationError

from appkit.core.mail import ConsoleMailer, Mail, MemoryMailer, compose, create_mailer
from appkit.core.settings import Settings
from appkit.exceptions import AppKitError

MAIL = Mail(
    to="ada@example.com", subject="Grüße", text="Hello\nhttps://desk.example/verify?token=t0", html="<p>Hello</p>"
)


class Inbox(Message):
    """The mails that a server received, and the users who signed in."""

    def __init__(self) -> None:
        super().__init__(EmailMessage)
        self.messages: list[Any] = []
        self.logins: list[tuple[bytes, bytes]] = []

    def handle_message(self, message: Any) -> None:
        self.messages.append(message)

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: Any
    ) -> AuthResult:
        assert isinstance(login, LoginPassword)
        self.logins.append((login.login, login.password))
        return AuthResult(success=True)


@asynccontextmanager
async def serve(
    inbox: Inbox, *, tls: ssl.SSLContext | None = None, start_tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    def protocol() -> SMTP:
        return SMTP(
            inbox,
            hostname="localhost",
            tls_context=start_tls,
            authenticator=inbox.authenticate,
            auth_require_tls=tls is None,
        )

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """A certificate for localhost, and a certificate authority that this process trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def mailer_settings(url: str) -> Settings:
    return Settings(_env_file=None, mail={"url": url, "from": "Desk <desk@example.com>"})


async def test_smtp_sends_text_with_html_as_an_alternative():
    inbox = Inbox()
    async with serve(inbox) as port:
        await create_mailer(mailer_settings(f"smtp://127.0.0.1:{port}")).send(MAIL)
    (message,) = inbox.messages
    assert (message["from"], message["to"]) == ("Desk <desk@example.com>", "ada@example.com")
    assert message["x-rcptto"] == "ada@example.com"
    assert message["auto-submitted"] == "auto-generated"
    assert message["message-id"].endswith("@example.com>")
    assert message["date"]
    assert str(message["subject"]).startswith("=?utf-8?")
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert b"verify?token=t0" in message.get_payload(0).get_payload(decode=True)


async def test_smtp_signs_in_over_starttls_with_a_decoded_password(certificate: ssl.SSLContext):
    inbox = Inbox()
    async with serve(inbox, start_tls=certificate) as port:
        await create_mailer(mailer_settings(f"smtp://desk%40example.com:p%2Fw@localhost:{port}")).send(MAIL)
    assert inbox.logins == [(b"desk@example.com", b"p/w")]
    assert len(inbox.messages) == 1


async def test_smtp_never_sends_a_password_without_tls():
    inbox = Inbox()
    async with serve(inbox) as port:
        with pytest.raises(aiosmtplib.SMTPException):
            await create_mailer(mailer_settings(f"smtp://desk:hunter2@127.0.0.1:{port}")).send(MAIL)
    assert (inbox.logins, inbox.messages) == ([], [])


async def test_smtps_uses_implicit_tls(certificate: ssl.SSLContext):
    inbox = Inbox()
    async with serve(inbox, tls=certificate) as port:
        await create_mailer(mailer_settings(f"smtps://desk:pw@localhost:{port}")).send(MAIL)
    assert inbox.logins == [(b"desk", b"pw")]
    assert len(inbox.messages) == 1


async def test_smtps_refuses_an_untrusted_certificate(certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    inbox = Inbox()
    async with serve(inbox, tls=certificate) as port:
        with pytest.raises(aiosmtplib.SMTPException, match=r"(?i)certificate"):
            await create_mailer(mailer_settings(f"smtps://desk:pw@localhost:{port}")).send(MAIL)
    assert inbox.messages == []


async def test_smtp_raises_when_there_is_no_server():
    async with serve(Inbox()) as port:
        pass
    with pytest.raises(aiosmtplib.SMTPConnectError):
        await create_mailer(mailer_settings(f"smtp://127.0.0.1:{port}")).send(MAIL)


async def test_console_prints_links_unchanged(capsys: pytest.CaptureFixture[str]):
    mailer = create_mailer(Settings(_env_file=None))
    assert isinstance(mailer, ConsoleMailer)
    await mailer.send(MAIL)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "To: ada@example.com\nSubject: Grüße\n\nHello\nhttps://desk.example/verify?token=t0\n" in printed.err


async def test_memory_collects_mail():
    mailer = create_mailer(mailer_settings("memory://"))
    assert isinstance(mailer, MemoryMailer)
    await mailer.send(MAIL)
    assert mailer.outbox == [MAIL]


@pytest.mark.parametrize(
    "to",
    [
        "ada@example.com\nBcc: eve@example.com",
        "ada@example.com\r\n\r\nBody",
        "ada@example.com, eve@example.com",
        "Ada <ada@example.com>",
        "ada@example.com\x00",
        "ada",
    ],
    ids=["bcc", "body", "two", "name", "null", "no-at"],
)
def test_mail_goes_to_one_plain_address(to: str):
    with pytest.raises(ValidationError) as caught:
        Mail(to=to, subject="s", text="t")
    assert "ada" not in str(caught.value)


@pytest.mark.parametrize("subject", ["s\nBcc: eve@example.com", "s\r\nX: y", "s\x00", "s\u2028X: y", "s\n"])
def test_mail_with_a_line_break_in_its_subject_is_refused(subject: str):
    with pytest.raises(ValidationError):
        Mail(to="ada@example.com", subject=subject, text="t")


def test_mail_hides_its_links_in_its_repr():
    assert "token" not in repr(MAIL)


def test_compose_refuses_a_sender_with_a_line_break():
    with pytest.raises(ValueError, match="linefeed"):
        compose(MAIL, "desk@example.com\nBcc: eve@example.com")


def test_compose_creates_only_plain_text_without_html():
    assert compose(Mail(to="a@b.c", subject="s", text="t"), "desk").get_content_type() == "text/plain"


@pytest.mark.parametrize("url", ["pigeon://coop", "smtp.example.com", "hunter2"])
def test_unknown_scheme_names_the_variable_and_not_its_value(url: str):
    with pytest.raises(AppKitError, match="MAIL_URL has an unknown scheme. Use console://") as caught:
        create_mailer(mailer_settings(url))
    assert url not in str(caught.value)


def test_smtp_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "aiosmtplib", None)
    with pytest.raises(AppKitError, match=r"pip install 'fastapi-appkit\[mail\]'"):
        create_mailer(mailer_settings("smtp://localhost"))
