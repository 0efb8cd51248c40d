"""Settings: variables that are read or ignored, and the errors for refused values."""

from pathlib import Path

import pytest
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from appkit.core.environment import ignored_variables, variables
from appkit.core.secrets import new_secret
from appkit.core.settings import AuthSettings, DatabaseSettings, MailSettings, Settings, SettingsGroup, describe_errors
from appkit.exceptions import AppKitError

GOOD = "k7Rr0mQvZ3xWb1Np5TyLc8Jd2HsFgUeA"


class ShopSettings(SettingsGroup):
    currency: str = "EUR"
    countries: list[str] | None = None
    api_key: SecretStr | None = None


class DeliverySettings(BaseModel):
    sender: str = Field(default="Hamburg", alias="from")


class OwnSettings(Settings):
    shop: ShopSettings = ShopSettings()
    shop_window: DeliverySettings | None = None
    flags: dict[str, bool] = Field(default_factory=dict)
    motto: str = Field(default="", alias="SHOP_MOTTO")
    database: DatabaseSettings = DatabaseSettings(pool_size=20)


def test_settings_without_any_are_for_development():
    settings = Settings()
    assert (settings.environment, settings.production, settings.secure_cookies) == ("development", False, False)
    assert settings.database.url == "sqlite+aiosqlite:///./app.db"


def test_settings_read_a_variable_for_each_field(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APP_NAME", "desk")
    monkeypatch.setenv("DATABASE_POOL_SIZE", "7")
    monkeypatch.setenv("DATABASE_REPLICA_URLS", '["postgresql://a", "postgresql://b"]')
    monkeypatch.setenv("AUTH_COOKIE_SECURE", "true")
    monkeypatch.setenv("MAIL_FROM", "Desk <desk@example.com>")
    settings = Settings()
    assert settings.app_name == "desk"
    assert settings.database.pool_size == 7
    assert settings.database.replica_urls == ("postgresql://a", "postgresql://b")
    assert settings.secure_cookies
    assert settings.mail.sender == "Desk <desk@example.com>"


def test_settings_ignore_variables_of_other_programs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAIL", "/var/mail/me")
    monkeypatch.setenv("AUTH", "{broken")
    monkeypatch.setenv("DATABASE", '{"pool_size": 3}')
    monkeypatch.setenv("REDIS_PORT", "tcp://10.0.0.1:6379")
    monkeypatch.setenv("MAIL_SENDER", "not@the.alias")
    assert Settings() == Settings(_env_file=None)
    assert Settings().database.pool_size == 10
    assert Settings().mail.sender == "appkit <no-reply@localhost>"
    assert {"AUTH", "DATABASE", "MAIL", "MAIL_SENDER", "REDIS_PORT"} <= set(ignored_variables(Settings))


def test_ignored_variables_are_found_in_the_env_file_too(bare: Path):
    (bare / ".env").write_text("DATABASE_POLL_SIZE=3\nDATABASE_POOL_SIZE=4\nOTHER=1\n")
    assert "DATABASE_POLL_SIZE" in ignored_variables(Settings)
    assert not {"DATABASE_POOL_SIZE", "OTHER"} & set(ignored_variables(Settings))


def test_settings_treat_an_empty_variable_as_unset(monkeypatch: pytest.MonkeyPatch, bare: Path):
    monkeypatch.setenv("DATABASE_POOL_SIZE", "")
    monkeypatch.setenv("SENTRY_DSN", "")
    (bare / ".env").write_text("AUTH_ACCESS_TTL=\nENVIRONMENT=\n")
    assert Settings() == Settings(_env_file=None)
    assert Settings().database.pool_size == 10


def test_settings_prefer_arguments_to_variables_to_the_env_file_to_secret_files(
    monkeypatch: pytest.MonkeyPatch, bare: Path
):
    (bare / "secrets").mkdir()
    for name in ("AUTH_ACCESS_TTL", "auth_session_ttl", "AUTH_REMEMBER_TTL", "AUTH_MAX_SESSIONS"):
        (bare / "secrets" / name).write_text("4\n")
    (bare / ".env").write_text("AUTH_ACCESS_TTL=3\nAUTH_SESSION_TTL=3\nAUTH_REMEMBER_TTL=3\n")
    monkeypatch.setenv("AUTH_ACCESS_TTL", "2")
    monkeypatch.setenv("AUTH_SESSION_TTL", "2")
    auth = Settings(auth={"access_ttl": 1}).auth
    assert (auth.access_ttl, auth.session_ttl, auth.remember_ttl, auth.max_sessions) == (1, 2, 3, 4)


def test_settings_ignore_secret_files_of_other_programs(bare: Path):
    (bare / "secrets" / "kubernetes.io").mkdir(parents=True)
    (bare / "secrets" / "keystore").write_bytes(b"\xfe\xed\xff")
    (bare / "secrets" / "DATABASE_URL").mkdir()
    assert Settings().database.url == "sqlite+aiosqlite:///./app.db"


def test_settings_groups_of_an_app_follow_the_same_rules(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHOP", "Lidl")
    monkeypatch.setenv("SHOP_CURRENCY", "USD")
    monkeypatch.setenv("SHOP_COUNTRIES", '["DE"]')
    monkeypatch.setenv("SHOP_API_KEY", "[5")
    monkeypatch.setenv("SHOP_PORT", "1")
    monkeypatch.setenv("SHOP_WINDOW_FROM", "Bremen")
    monkeypatch.setenv("SHOP_MOTTO", "cheap")
    monkeypatch.setenv("FLAGS", '{"beta": true}')
    settings = OwnSettings()
    assert settings.shop == ShopSettings(currency="USD", countries=["DE"], api_key=SecretStr("[5"))
    assert settings.shop_window == DeliverySettings.model_validate({"from": "Bremen"})
    assert (settings.motto, settings.flags) == ("cheap", {"beta": True})
    assert {"SHOP", "SHOP_PORT"} <= set(ignored_variables(OwnSettings))


def test_settings_combine_defaults_of_an_app_with_variables(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/app")
    assert OwnSettings().database == DatabaseSettings(url="postgresql://db/app", pool_size=20)


def test_settings_of_an_app_may_have_a_prefix(monkeypatch: pytest.MonkeyPatch):
    class Prefixed(Settings):
        model_config = SettingsConfigDict(env_prefix="desk_")

    monkeypatch.setenv("DESK_DATABASE_POOL_SIZE", "3")
    monkeypatch.setenv("DESK_DATABASE_PORT", "3")
    monkeypatch.setenv("DATABASE_POOL_SIZE", "4")
    assert Prefixed().database.pool_size == 3
    assert ignored_variables(Prefixed) == ["DESK_DATABASE_PORT"]


@pytest.mark.parametrize("sender", [{"from": "a@b.c"}, {"sender": "a@b.c"}, MailSettings(sender="a@b.c")])
def test_settings_arguments_win_by_either_name(monkeypatch: pytest.MonkeyPatch, sender: object):
    monkeypatch.setenv("MAIL_FROM", "other@b.c")
    assert Settings.model_validate({"mail": sender}).mail.sender == "a@b.c"
    assert Settings(mail=sender).mail.sender == "a@b.c"


def test_settings_errors_name_the_variable_and_never_the_value(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_POOL_SIZE", "hunter2")
    monkeypatch.setenv("AUTH_SECRET_KEYS", "hunter2")
    monkeypatch.setenv("CORS_ORIGINS", '["https://a", 2]')
    monkeypatch.setenv("ENVIRONMENT", "hunter2")
    monkeypatch.setenv("MAIL_FROM", "hunter2")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert describe_errors(caught.value) == [
        "ENVIRONMENT: Input should be 'development', 'production' or 'test'",
        "DATABASE_POOL_SIZE: Input should be a valid integer, unable to parse string as an integer",
        'AUTH_SECRET_KEYS: Input should be a JSON list, as in ["a", "b"]',
        "CORS_ORIGINS.1: Input should be a valid string",
    ]
    assert "hunter2" not in f"{caught.value!r} {caught.value} {caught.value.errors()}"
    assert "DATABASE_POOL_SIZE" in str(caught.value)


def test_settings_errors_in_arguments_name_the_variable_too():
    with pytest.raises(ValidationError, match="MAIL_FROM"):
        Settings(mail={"from": 3})


def test_settings_hide_secrets_in_their_repr():
    url = "postgresql://app:hunter2@db/app"
    settings = Settings(
        auth={"secret_keys": ["hunter2"]}, database={"url": url, "replica_urls": [url]}, redis={"url": url}
    )
    assert "hunter2" not in repr(settings)


def test_variables_know_their_fields():
    found = {variable.name: variable for variable in variables(Settings)}
    assert found["MAIL_FROM"].path == ("mail", "sender")
    assert found["APP_NAME"].path == ("app_name",)
    assert found["DATABASE_POOL_SIZE"].field.default == 10


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "AUTH_SECRET_KEYS is missing"),
        ({"auth": {"secret_keys": [GOOD[:31]]}}, "AUTH_SECRET_KEYS has a secret of fewer than 32 bytes"),
        ({"auth": {"secret_keys": [GOOD, "x" * 64]}}, "AUTH_SECRET_KEYS has a placeholder"),
        ({"auth": {"secret_keys": ["change-me-to-32-random-bytes-0123456789"]}}, "AUTH_SECRET_KEYS has a placeholder"),
        ({"auth": {"secret_keys": [GOOD, GOOD]}}, "AUTH_SECRET_KEYS has the same secret twice"),
        ({"auth": {"secret_keys": [GOOD], "cookie_secure": False}}, "AUTH_COOKIE_SECURE is false"),
        ({"auth": {"secret_keys": [GOOD]}, "cors": {"origins": ["*"]}}, "CORS_ORIGINS has a wildcard"),
        ({"auth": {"secret_keys": [GOOD]}, "cors": {"origins": ["https://*.a.b"]}}, "CORS_ORIGINS has a wildcard"),
    ],
    ids=["missing", "short", "one-letter", "words", "twice", "cookie", "wildcard", "wildcard-host"],
)
def test_settings_refuse_in_production_what_is_good_for_trying_out(changes: dict[str, object], sentence: str):
    with pytest.raises(AppKitError, match=sentence) as caught:
        Settings(environment="production", **changes)
    assert not any(key in str(caught.value) for key in ("x" * 64, "change-me", GOOD[:31]))
    assert sentence in " ".join(Settings(**changes).production_problems())


def test_settings_report_all_problems_of_production_together():
    with pytest.raises(AppKitError) as caught:
        Settings(environment="production", auth={"cookie_secure": False}, cors={"origins": ["*"]})
    assert all(name in str(caught.value) for name in ("AUTH_SECRET_KEYS", "AUTH_COOKIE_SECURE", "CORS_ORIGINS"))


def test_settings_accept_fresh_secrets_in_production(bare: Path):
    keys = [new_secret() for _ in range(200)]
    settings = Settings(environment="production", auth=AuthSettings(secret_keys=tuple(map(SecretStr, keys))))
    assert settings.signing_keys == tuple(key.encode() for key in keys)
    assert settings.secure_cookies
    assert not (bare / ".appkit").exists()


def test_signing_keys_are_the_given_secrets_in_development(bare: Path):
    assert Settings(auth={"secret_keys": ["one", "two"]}).signing_keys == (b"one", b"two")
    assert not (bare / ".appkit").exists()


def test_signing_keys_are_generated_once_in_development():
    assert Settings().signing_keys == Settings().signing_keys
    assert len(Settings().signing_keys[0]) >= 32
