"""The mails about accounts. Composing a mail needs no query, so the tests run on SQLite only."""

from typing import get_args

import pytest

from appkit.core.settings import FrontendSettings, MailSettings
from appkit.exceptions import AppKitError
from appkit.service.hookspecs import MailKind
from appkit.service.mails import _PAGES, MailService


@pytest.fixture
def database_url(tmp_path):
    return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def write(kit, app, user, monkeypatch):
    async def write(kind, *, url=None, templates=None, **options):
        mail = MailSettings(templates=templates)
        changed = {"frontend": FrontendSettings(url=url), "app_name": "Fish & Chips", "mail": mail}
        monkeypatch.setattr(kit.context, "settings", kit.settings.model_copy(update=changed))
        async with kit.session() as db:
            return await MailService(db).write(kind, user, **options)

    return write


@pytest.mark.parametrize("kind", get_args(MailKind))
async def test_mail_has_the_same_content_as_text_and_html(write, kind):
    mail = await write(kind, url="https://shop.example.com", token="abc_-1" if kind in _PAGES else None)
    assert "Fish & Chips" in mail.text
    assert "Fish &amp; Chips" in mail.html
    assert mail.subject
    assert "$" not in mail.subject + mail.text + mail.html
    link = f"https://shop.example.com/{_PAGES.get(kind)}#token=abc_-1"
    assert (link in mail.text) == (f'<a href="{link}"' in mail.html) == (kind in _PAGES)


async def test_mail_without_a_frontend_has_the_token_alone(write):
    mail = await write("reset_password", token="abc_-1")
    assert "\n\nabc_-1\n\n" in mail.text
    assert "<code>abc_-1</code>" in mail.html


async def test_mail_goes_to_the_account_by_default(write, user):
    assert (await write("email_changed")).to == user.email
    assert (await write("change_email", to="new@example.com", token="x")).to == "new@example.com"


async def test_mail_uses_the_apps_templates(write, tmp_path):
    (tmp_path / "reset_password.txt").write_text("Subject: $app: a new password\n\nDear <$email>,\n\n$link\n")
    (tmp_path / "layout.html").write_text("<main>$body</main>")
    mail = await write("reset_password", templates=tmp_path, url="https://shop.example.com", token="t")
    assert mail.subject == "Fish & Chips: a new password"
    assert mail.text == "Dear <user@example.com>,\n\nhttps://shop.example.com/reset-password#token=t"
    assert mail.html.startswith("<main><p>Dear &lt;user@example.com&gt;,</p>\n<p><a href=")
    (tmp_path / "reset_password.html").write_text("<b>$app</b> <a href='$link'>go</a>")
    mail = await write("reset_password", templates=tmp_path, token="t&")
    assert mail.html == "<main><b>Fish &amp; Chips</b> <a href='t&amp;'>go</a></main>"
    assert (await write("email_changed", templates=tmp_path)).subject == "Your e-mail address was changed"


@pytest.mark.parametrize("text", ["Subject: x\n\n$name", "Subject: x\n\n5 $"])
async def test_mail_error_names_the_broken_template(write, tmp_path, text):
    (tmp_path / "email_changed.txt").write_text(text)
    with pytest.raises(AppKitError, match=r"email_changed\.txt can't be filled in"):
        await write("email_changed", templates=tmp_path)
