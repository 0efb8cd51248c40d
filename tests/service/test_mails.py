"""What mails about accounts say. Nothing is asked of the database, so one will do."""

import pytest

from appkit.core.settings import FrontendSettings
from appkit.service.mails import _TEXTS, MailService


@pytest.fixture
def database_url(tmp_path):
    return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def write(kit, app, user, monkeypatch):
    async def write(kind, *, url=None, name="Fish & Chips", **options):
        changed = {"frontend": FrontendSettings(url=url), "app_name": name}
        monkeypatch.setattr(kit.context, "settings", kit.settings.model_copy(update=changed))
        async with kit.session() as db:
            return await MailService(db).write(kind, user, **options)

    return write


@pytest.mark.parametrize("kind", list(_TEXTS))
async def test_mail_says_the_same_as_text_and_as_html(write, kind):
    mail = await write(kind, url="https://shop.example.com", token="abc_-1" if _TEXTS[kind].page else None)
    assert "Fish & Chips" in mail.text
    assert "Fish &amp; Chips" in mail.html
    assert "{" not in mail.subject + mail.text
    link = f"https://shop.example.com/{_TEXTS[kind].page}#token=abc_-1"
    assert (link in mail.text) == (f'<a href="{link}">' in mail.html) == bool(_TEXTS[kind].page)


async def test_mail_without_a_frontend_has_the_token_alone(write):
    mail = await write("reset_password", token="abc_-1")
    assert "\n\nabc_-1\n\n" in mail.text
    assert "<code>abc_-1</code>" in mail.html


async def test_mail_goes_to_the_account_unless_it_says_otherwise(write, user):
    assert (await write("email_changed")).to == user.email
    assert (await write("change_email", to="new@example.com", token="x")).to == "new@example.com"
