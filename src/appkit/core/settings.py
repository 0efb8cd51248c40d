"""Settings: every environment variable that an app reads, typed and validated at the start."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from appkit.core.environment import name_variables, read_variables
from appkit.core.secrets import development_secret, secret_problems
from appkit.exceptions import AppKitError

GroupT = TypeVar("GroupT", bound="SettingsGroup")
PositiveSeconds = Annotated[float, Field(gt=0)]


class SettingsGroup(BaseModel):
    """Settings whose variables start with the same word: the field `url` of the group `mail` is `MAIL_URL`.

    Unknown names in a group are ignored, because an environment contains variables of other programs too.
    URLs may contain passwords, so they are left out of a group's `repr`.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, populate_by_name=True)


class DatabaseSettings(SettingsGroup):
    """The database."""

    url: str = Field(default="sqlite+aiosqlite:///./app.db", repr=False)
    """SQLAlchemy URL; `postgresql://` means asyncpg and `sqlite://` aiosqlite."""
    replica_urls: tuple[str, ...] = Field(default=(), repr=False)
    """JSON list of read replicas' URLs."""
    replica_lag: PositiveSeconds = 5.0
    """Seconds that a replica may lag. For as long after a write, the same client reads from the primary."""
    pool_size: int = Field(default=10, ge=1)
    """Connections in the pool; on SQLite, the readers beside the one writer."""
    pool_timeout: PositiveSeconds = 10.0
    """Seconds to wait for a free connection before answering 503."""
    statement_timeout: PositiveSeconds | None = None
    """Seconds after which PostgreSQL cancels a statement, and the request is answered 503. Not for SQLite."""
    migrate: Literal["upgrade", "check", "off"] = "upgrade"
    """At the start: apply pending migrations (`upgrade`), refuse to start if there are any (`check`), or do nothing."""
    migrations: Path = Path("migrations")
    """The directory with the app's migrations; relative to the working directory."""


class AuthSettings(SettingsGroup):
    """Sign-in, sessions and passwords."""

    secret_keys: tuple[SecretStr, ...] = ()
    """JSON list of secrets of at least 32 bytes each; the first signs, all verify."""
    signup_mode: Literal["open", "private", "closed"] = "open"
    """`open` answers 409 for an address that has an account. `private` doesn't reveal who has one: sign-up always
    answers 202 and sends a mail, and signing in requires a verified address. `closed` refuses sign-ups."""
    bearer_enabled: bool = False
    """Whether `POST /auth/token` returns tokens in the response body, for programs. Scripts in a page can read them."""
    access_ttl: int = Field(default=300, gt=0)
    """Seconds that an access token is valid."""
    refresh_grace: int = Field(default=30, ge=0)
    """Seconds in which a rotated refresh token is still accepted, in case the response was lost."""
    session_idle_ttl: int = Field(default=12 * 3600, gt=0)
    """Seconds without use after which a session ends."""
    session_ttl: int = Field(default=24 * 3600, gt=0)
    """Seconds after which a session ends, even if it is in use."""
    remember_idle_ttl: int = Field(default=14 * 86400, gt=0)
    """Like `session_idle_ttl`, for users who chose to be remembered."""
    remember_ttl: int = Field(default=60 * 86400, gt=0)
    """Like `session_ttl`, for users who chose to be remembered."""
    fresh_ttl: int = Field(default=600, gt=0)
    """Seconds after entering their password in which users may perform sensitive actions."""
    socket_check: float = Field(default=30, gt=0)
    """Seconds between the checks whether the session of an open websocket (`SocketUser`) is still live."""
    reset_ttl: int = Field(default=1800, gt=0)
    """Seconds that a link to reset a password is valid."""
    verify_ttl: int = Field(default=86400, gt=0)
    """Seconds that a link to verify an e-mail address is valid."""
    max_sessions: int = Field(default=20, ge=1)
    """Live sessions for each user; a new one revokes the oldest."""
    cookie_secure: bool | None = None
    """Whether cookies are sent over HTTPS only; unset, they are in production."""
    password_min_length: int = Field(default=8, ge=1)
    """Minimum number of characters in a password."""
    hash_concurrency: int = Field(default=0, ge=0)
    """Passwords hashed at once, with 64 MiB each; 0 means one for each CPU, up to four."""


class FrontendSettings(SettingsGroup):
    """The frontend of this API."""

    url: str | None = None
    """The URL at which users open the app. Links in mails start with it, and the CSRF check accepts its origin."""
    dist: Path | None = None
    """The directory of a built frontend, served from the same origin."""


class HTTPSettings(SettingsGroup):
    """Limits of requests, and trusted proxies."""

    max_body_size: int = Field(default=2 * 1024 * 1024, gt=0)
    """Maximum bytes of a request's body; a larger one is answered 413."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """JSON list of the networks of your own proxies. `X-Forwarded-For` is trusted only from these. A client on a Unix
    socket counts as 127.0.0.1."""

    @field_validator("trusted_proxies")
    @classmethod
    def _refuse_all_addresses(cls, networks: tuple[IPvAnyNetwork, ...]) -> tuple[IPvAnyNetwork, ...]:
        if any(network.prefixlen == 0 for network in networks):
            raise ValueError("A network of all addresses lets every client forge its address")
        return networks


class LimitsSettings(SettingsGroup):
    """Rate limits."""

    enabled: bool = True
    """Whether rate limits are enforced."""


class TasksSettings(SettingsGroup):
    """Background tasks."""

    broker_url: str = Field(default="db://", repr=False)
    """`db://` is the app's own database. With `redis://`, `amqp://` or (experimental) `nats://`, a message broker
    notifies workers of its rows; `memory://` is for tests. The option `queue` sets the queues' name there."""
    embedded: bool = True
    """Whether the app's own process runs tasks; if not, run `appkit worker`."""
    queues: tuple[str, ...] = ()
    """JSON list of the queues whose tasks this process runs; all queues if unset."""
    concurrency: int = Field(default=10, ge=1)
    """Tasks that one process runs at once."""
    lease: PositiveSeconds = 60.0
    """Seconds after which another process rescues the tasks of one that died."""
    poll_interval: PositiveSeconds = 1.0
    """Seconds between polls for unpublished tasks. Up to ten while the queue is empty and PostgreSQL notifies."""
    max_attempts: int = Field(default=5, ge=1)
    """Attempts at a task, crashes included, before it is dead."""
    retry_delay: float = Field(default=5.0, ge=0)
    """Seconds before the first retry; doubled with each attempt, with 25 % jitter."""
    retry_max_delay: PositiveSeconds = 3600.0
    """Maximum seconds before a retry."""
    keep_done: float = Field(default=86400.0, ge=0)
    """Seconds that a finished task is kept, with its result."""
    keep_dead: float = Field(default=14 * 86400.0, ge=0)
    """Seconds that a dead or cancelled task is kept."""
    notify: Literal["auto", "on", "off"] = "auto"
    """Whether a commit wakes workers in other processes by PostgreSQL's NOTIFY, which makes it a fifth slower. `auto`
    notifies if this process runs no tasks itself. Without notifications, workers poll each `TASKS_POLL_INTERVAL`."""
    shutdown_grace: float = Field(default=20.0, ge=0)
    """Seconds that running tasks may take to finish when the process stops."""


class RedisSettings(SettingsGroup):
    """A Redis server that all instances share."""

    url: str | None = Field(default=None, repr=False)
    """`redis://…`; `kit.redis` is its client."""


class MailSettings(SettingsGroup):
    """Outgoing mail."""

    url: str = Field(default="console://", repr=False)
    """`console://` prints mail, `memory://` collects it, `smtp://user:password@host:port` sends it (`smtps://` with
    implicit TLS). A password is sent over TLS only."""
    sender: str = Field(default="appkit <no-reply@localhost>", validation_alias="from")
    """The `From` of every mail."""
    templates: Path | None = None
    """A directory with the app's own templates for mails about accounts, such as `reset_password.txt`."""


class SentrySettings(SettingsGroup):
    """Error reports to Sentry."""

    enabled: bool = False
    """Whether unhandled exceptions are reported."""
    dsn: SecretStr | None = None
    """The project's DSN."""


class LoggingSettings(SettingsGroup):
    """Log lines."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level that is logged."""
    format: Literal["json", "console"] | None = None
    """`json` in production and `console` elsewhere, if unset."""


class CorsSettings(SettingsGroup):
    """Other origins whose pages may call this API with cookies."""

    origins: tuple[str, ...] = ()
    """JSON list of origins, such as `["https://app.example.com"]`; the CSRF check accepts them too."""


class PluginsSettings(SettingsGroup):
    """Installed plugins."""

    disabled: tuple[str, ...] = ()
    """JSON list of plugins that are not loaded."""
    strict: bool = False
    """Whether a plugin that fails stops the start."""
    trace: bool = False
    """Whether each call of a hook is logged, with its duration."""


class Settings(BaseSettings):
    """The settings of an app, from its environment, its `.env` file and its secrets directory.

    Subclass it to add your own settings, in groups:

        class ShopSettings(SettingsGroup):
            currency: str = "EUR"  # SHOP_CURRENCY

        class MySettings(Settings):
            shop: ShopSettings = ShopSettings()

    Environment variables win over `.env`, which wins over the files in the secrets directory, named like the variables.

    Raises:
        pydantic.ValidationError: When a variable's value is invalid; it names the variable, never the value.
        AppKitError: In production, when a setting is unsafe for production.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        nested_model_default_partial_update=True,
        secrets_dir="/run/secrets",
    )

    environment: Literal["development", "production", "test"] = "development"
    """`production` refuses settings that are unsafe there."""
    app_name: str = "appkit"
    """The app's name, in its API's title, its mails and its cookies."""
    api_prefix: str = "/api"
    """The path prefix of the routes."""
    watchdog: bool | None = None
    """Whether to log code that blocks the event loop for more than 100 ms, with its line; if unset, in development."""
    database: DatabaseSettings = DatabaseSettings()
    auth: AuthSettings = AuthSettings()
    frontend: FrontendSettings = FrontendSettings()
    http: HTTPSettings = HTTPSettings()
    limits: LimitsSettings = LimitsSettings()
    tasks: TasksSettings = TasksSettings()
    redis: RedisSettings = RedisSettings()
    mail: MailSettings = MailSettings()
    sentry: SentrySettings = SentrySettings()
    logging: LoggingSettings = LoggingSettings()
    cors: CorsSettings = CorsSettings()
    plugins: PluginsSettings = PluginsSettings()

    # Type checkers would require every group as an object, and don't know BaseSettings' own arguments.
    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None: ...

    def group(self, kind: type[GroupT]) -> GroupT:
        """Return the group of this class. Use it for a plugin's group, because type checkers don't know its attribute.

        Raises:
            AppKitError: When no plugin has registered the group.
        """
        values = (getattr(self, name) for name in type(self).model_fields)
        found = next((value for value in values if isinstance(value, kind)), None)
        if found is None:
            raise AppKitError(f"There are no settings {kind.__name__}. Return them from register_settings().")
        return found

    @property
    def production(self) -> bool:
        """Whether `ENVIRONMENT` is `production`."""
        return self.environment == "production"

    @property
    def secure_cookies(self) -> bool:
        """Whether cookies are sent over HTTPS only."""
        return self.production if self.auth.cookie_secure is None else self.auth.cookie_secure

    @property
    def signing_keys(self) -> tuple[bytes, ...]:
        """The secrets that tokens are verified with; the first secret signs them.

        They are `AUTH_SECRET_KEYS` or, outside production, the secret in `.appkit/secret`.

        Raises:
            AppKitError: When there is no secret, and none can be stored.
        """
        if self.auth.secret_keys or self.production:
            return tuple(key.get_secret_value().encode() for key in self.auth.secret_keys)
        return (development_secret(),)

    def production_problems(self) -> list[str]:
        """The settings that production refuses: sentences that name the variable."""
        problems = secret_problems([key.get_secret_value() for key in self.auth.secret_keys])
        if self.auth.cookie_secure is False:
            problems.append("AUTH_COOKIE_SECURE is false, which sends cookies over plain HTTP. Unset it.")
        if any("*" in origin for origin in self.cors.origins):
            problems.append("CORS_ORIGINS has a wildcard, which lets every website act for signed-in users.")
        return problems

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, handler: ModelWrapValidatorHandler["Settings"]) -> "Settings":
        try:
            settings = handler(data)
        except ValidationError as exc:
            raise name_variables(cls, exc) from None
        if settings.production and (problems := settings.production_problems()):
            raise AppKitError(" ".join(["ENVIRONMENT is production, but:", *problems]))
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources of values, the strongest first."""
        sources = (env_settings, dotenv_settings, file_secret_settings)
        return init_settings, *(read_variables(settings_cls, source) for source in sources)


def describe_errors(exc: ValidationError) -> list[str]:
    """A line for each invalid setting, with its variable and what is expected, never the value."""
    return [
        f"{'.'.join(map(str, error['loc'])) or exc.title}: {error['msg']}"
        for error in exc.errors(include_url=False, include_context=False, include_input=False)
    ]
