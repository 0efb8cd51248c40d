"""Settings: the environment variables that an app reads. They are typed, and validated at the start."""

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
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, populate_by_name=True)


class DatabaseSettings(SettingsGroup):
    """The database."""

    url: str = Field(default="sqlite+aiosqlite:///./app.db", repr=False)
    """SQLAlchemy URL. `postgresql://` uses asyncpg, and `sqlite://` uses aiosqlite."""
    replica_urls: tuple[str, ...] = Field(default=(), repr=False)
    """JSON list of the URLs of read replicas."""
    replica_lag: PositiveSeconds = 5.0
    """Seconds that a replica may lag behind. For this time after a write, the same client reads from the primary."""
    pool_size: int = Field(default=10, ge=1)
    """Connections that the pool keeps. Under load, the pool has up to twice as many. On SQLite, these connections only
    read, and one more connection writes."""
    pool_timeout: PositiveSeconds = 10.0
    """Seconds to wait for a free connection. Then the request is answered 503."""
    statement_timeout: PositiveSeconds | None = None
    """Seconds after which PostgreSQL cancels a statement. Then the request is answered 503. Not for SQLite."""
    migrate: Literal["upgrade", "check", "off"] = "upgrade"
    """At the start, `upgrade` applies pending migrations, and `check` refuses to start if there are any."""
    migrations: Path = Path("migrations")
    """The directory with the app's migrations. A relative path starts at the working directory."""


class AuthSettings(SettingsGroup):
    """Sign-in, sign-in sessions and passwords."""

    secret_keys: tuple[SecretStr, ...] = ()
    """JSON list of secrets with at least 32 bytes each. The first secret signs, and all secrets verify."""
    signup_mode: Literal["open", "private", "closed"] = "open"
    """`open` answers 409 if the e-mail address has an account. `private` doesn't reveal accounts: sign-up always
    answers 202 and sends a mail, and sign-in requires a verified e-mail address. `closed` refuses sign-ups."""
    bearer_enabled: bool = False
    """Whether `POST /auth/token` returns tokens in the response body. Scripts in a page could read these tokens."""
    access_ttl: int = Field(default=300, gt=0)
    """Seconds for which an access token is valid."""
    refresh_grace: int = Field(default=30, ge=0)
    """Seconds for which an old refresh token is still accepted, because the response with the new one may get lost."""
    session_idle_ttl: int = Field(default=12 * 3600, gt=0)
    """Seconds without use after which a sign-in session ends."""
    session_ttl: int = Field(default=24 * 3600, gt=0)
    """Seconds after which a sign-in session ends, even if the session is in use."""
    remember_idle_ttl: int = Field(default=14 * 86400, gt=0)
    """`AUTH_SESSION_IDLE_TTL` for users who chose to stay signed in."""
    remember_ttl: int = Field(default=60 * 86400, gt=0)
    """`AUTH_SESSION_TTL` for users who chose to stay signed in."""
    fresh_ttl: int = Field(default=600, gt=0)
    """Seconds for which a user may perform sensitive actions after signing in or entering the password again."""
    socket_check: float = Field(default=30, gt=0)
    """Seconds between two checks by an open websocket (`SocketUser`) that its sign-in session is live."""
    reset_ttl: int = Field(default=1800, gt=0)
    """Seconds for which a link to reset a password is valid."""
    verify_ttl: int = Field(default=86400, gt=0)
    """Seconds for which a link to verify an e-mail address is valid."""
    max_sessions: int = Field(default=20, ge=1)
    """Maximum number of sign-in sessions of a user. A new session revokes the oldest."""
    cookie_secure: bool | None = None
    """Whether cookies are sent over HTTPS only. If unset: true in production."""
    password_min_length: int = Field(default=8, ge=1)
    """Minimum number of characters in a password."""
    hash_concurrency: int = Field(default=0, ge=0)
    """Number of passwords that are hashed at the same time, each with 64 MiB. 0 means one for each CPU, up to four."""


class FrontendSettings(SettingsGroup):
    """The frontend of this API."""

    url: str | None = None
    """The URL at which users open the app. Links in mails start with this URL. The CSRF check accepts its origin."""
    dist: Path | None = None
    """The directory of a built frontend. The app serves these files."""


class HTTPSettings(SettingsGroup):
    """Limits of requests, and trusted proxies."""

    max_body_size: int = Field(default=2 * 1024 * 1024, gt=0)
    """Maximum size of a request's body in bytes. A larger body is answered 413."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """JSON list of the networks of your proxies. `X-Forwarded-For` is trusted only from these proxies. A client on a
    Unix socket counts as 127.0.0.1."""

    @field_validator("trusted_proxies")
    @classmethod
    def _refuse_all_addresses(cls, networks: tuple[IPvAnyNetwork, ...]) -> tuple[IPvAnyNetwork, ...]:
        if any(network.prefixlen == 0 for network in networks):
            raise ValueError("A network of all IP addresses lets each client forge its IP address")
        return networks


class LimitsSettings(SettingsGroup):
    """Rate limits."""

    enabled: bool = True
    """Whether rate limits are enforced."""


class TasksSettings(SettingsGroup):
    """Background tasks."""

    broker_url: str = Field(default="db://", repr=False)
    """`db://` is the app's database. With `redis://`, `amqp://` or `nats://` (experimental), a message broker wakes
    workers. `memory://` is for tests. The URL's option `queue` sets the prefix of the queues' names."""
    embedded: bool = True
    """Whether the app's process runs tasks. If false, run `appkit worker`."""
    queues: tuple[str, ...] = ()
    """JSON list of the queues whose tasks this process runs. If unset: all queues."""
    concurrency: int = Field(default=10, ge=1)
    """Number of tasks that a process runs concurrently."""
    lease: PositiveSeconds = 60.0
    """Seconds after which another process rescues the tasks of a dead process."""
    poll_interval: PositiveSeconds = 1.0
    """Seconds between polls for due tasks. While no task is due and PostgreSQL notifies this process, the interval
    grows to 10 seconds."""
    max_attempts: int = Field(default=5, ge=1)
    """Number of attempts before a task is dead. Crashes count as attempts."""
    retry_delay: float = Field(default=5.0, ge=0)
    """Seconds before the first retry. The delay doubles with each attempt, and has 25 % jitter."""
    retry_max_delay: PositiveSeconds = 3600.0
    """Maximum seconds before a retry, without the jitter."""
    keep_done: float = Field(default=86400.0, ge=0)
    """Seconds for which a finished task is kept, with its result."""
    keep_dead: float = Field(default=14 * 86400.0, ge=0)
    """Seconds for which a dead or cancelled task is kept."""
    notify: Literal["auto", "on", "off"] = "auto"
    """Whether a commit wakes workers in other processes by PostgreSQL's NOTIFY. This makes the commit a fifth slower.
    `auto` notifies if this process runs no tasks. Without NOTIFY, workers find new tasks by polling."""
    shutdown_grace: float = Field(default=20.0, ge=0)
    """Seconds that a process waits for its running tasks when it stops."""


class RedisSettings(SettingsGroup):
    """A Redis server that all instances share."""

    url: str | None = Field(default=None, repr=False)
    """The server's URL, `redis://…`. `kit.redis` is the client."""


class MailSettings(SettingsGroup):
    """Outgoing mail."""

    url: str = Field(default="console://", repr=False)
    """`console://` prints mail. `memory://` collects mail. `smtp://user:password@host:port` sends mail, and `smtps://`
    uses implicit TLS. A password is sent over TLS only."""
    sender: str = Field(default="appkit <no-reply@localhost>", validation_alias="from")
    """The `From` header of each mail."""
    templates: Path | None = None
    """A directory with the app's templates for mails about accounts, such as `reset_password.txt`."""


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
    """The format of log lines. If unset: `json` in production, and `console` elsewhere."""


class CorsSettings(SettingsGroup):
    """Other origins whose pages may call this API with cookies."""

    origins: tuple[str, ...] = ()
    """JSON list of origins, such as `["https://app.example.com"]`. The CSRF check accepts these origins too."""


class PluginsSettings(SettingsGroup):
    """Installed plugins."""

    disabled: tuple[str, ...] = ()
    """JSON list of installed plugins that are not loaded."""
    strict: bool = False
    """Whether a failing plugin stops the start. If false, the app runs without the plugin."""
    trace: bool = False
    """Whether each call of a hook is logged with its duration."""


class Settings(BaseSettings):
    """The settings of an app. Each value is read from the environment, the file `.env` or the secrets directory.

    Add your own settings in groups of a subclass:

        class ShopSettings(SettingsGroup):
            currency: str = "EUR"  # SHOP_CURRENCY

        class MySettings(Settings):
            shop: ShopSettings = ShopSettings()

    The environment wins over `.env`, and `.env` wins over the secrets directory. A file in the secrets directory has
    the name of its variable.

    Raises:
        pydantic.ValidationError: When the value of a variable is invalid. The error contains no value.
        AppKitError: When a setting is unsafe in production.
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
    """The app's name. The API's title, mails and cookies contain this name."""
    api_prefix: str = "/api"
    """The path that all routes start with."""
    watchdog: bool | None = None
    """Whether to detect code that blocks the event loop for more than 100 ms, and log its line. If unset: true in
    development."""
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

    # For type checkers, which would refuse Settings(database={…}).
    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None: ...

    def group(self, kind: type[GroupT]) -> GroupT:
        """Return the group of settings whose class is `kind`. This is how a plugin reads its settings with types.

        Raises:
            AppKitError: When no plugin has registered the group.
        """
        values = (getattr(self, name) for name in type(self).model_fields)
        found = next((value for value in values if isinstance(value, kind)), None)
        if found is None:
            raise AppKitError(f"The settings have no group {kind.__name__}. Return the group from register_settings().")
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
        """The secrets that verify tokens. The first secret signs tokens.

        If `AUTH_SECRET_KEYS` is unset, the secret in `.appkit/secret` is used, but not in production.

        Raises:
            AppKitError: When `.appkit/secret` can't be stored.
        """
        if self.auth.secret_keys or self.production:
            return tuple(key.get_secret_value().encode() for key in self.auth.secret_keys)
        return (development_secret(),)

    def production_problems(self) -> list[str]:
        """The settings that are unsafe in production, as sentences with the variable's name."""
        problems = secret_problems([key.get_secret_value() for key in self.auth.secret_keys])
        if self.auth.cookie_secure is False:
            problems.append("AUTH_COOKIE_SECURE is false, so cookies are sent over plain HTTP. Unset it.")
        if any("*" in origin for origin in self.cors.origins):
            problems.append("CORS_ORIGINS has a wildcard, so every website can act for signed-in users.")
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
        """The sources of values. The first source that has a value wins."""
        sources = (env_settings, dotenv_settings, file_secret_settings)
        return init_settings, *(read_variables(settings_cls, source) for source in sources)


def describe_errors(exc: ValidationError) -> list[str]:
    """Return a line for each invalid setting, with the variable and the expected value."""
    return [
        f"{'.'.join(map(str, error['loc'])) or exc.title}: {error['msg']}"
        for error in exc.errors(include_url=False, include_context=False, include_input=False)
    ]
