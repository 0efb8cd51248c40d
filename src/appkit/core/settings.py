"""Settings: every environment variable an app reads, typed and checked at the start."""

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

    Unknown names inside a group are ignored, for an environment is full of other programs' variables.
    URLs may hold passwords, so they are left out of a group's `repr`.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, populate_by_name=True)


class DatabaseSettings(SettingsGroup):
    """Where data is kept."""

    url: str = Field(default="sqlite+aiosqlite:///./app.db", repr=False)
    """SQLAlchemy URL; `postgresql://` means asyncpg and `sqlite://` aiosqlite."""
    replica_urls: tuple[str, ...] = Field(default=(), repr=False)
    """JSON list of read replicas' URLs."""
    replica_lag: PositiveSeconds = 5.0
    """Seconds that a replica may be behind: who wrote reads from the primary for so long, to find what they wrote."""
    pool_size: int = Field(default=10, ge=1)
    """Connections kept open; on SQLite, the readers beside the one writer."""
    pool_timeout: PositiveSeconds = 10.0
    """Seconds to wait for a free connection before answering 503."""
    statement_timeout: PositiveSeconds | None = None
    """Seconds after which PostgreSQL gives a statement up, and we answer 503; SQLite knows no such limit."""
    migrate: Literal["upgrade", "check", "off"] = "upgrade"
    """At the start: apply pending migrations, refuse to start when there are some, or do nothing."""
    migrations: Path = Path("migrations")
    """The directory with the app's migrations; relative to the working directory."""


class AuthSettings(SettingsGroup):
    """How people sign in, and for how long."""

    secret_keys: tuple[SecretStr, ...] = ()
    """JSON list of secrets of at least 32 bytes each; the first signs, all verify."""
    signup_mode: Literal["open", "private", "closed"] = "open"
    """`open` answers 409 for an address that has an account. `private` tells nobody who has one: signing up always
    answers 202, the rest is said by mail, and signing in needs a verified address, as a link from a mail makes it.
    `closed` takes no sign-ups."""
    bearer_enabled: bool = False
    """Whether `POST /auth/token` gives programs their tokens in the answer, which scripts in a page could read."""
    access_ttl: int = Field(default=300, gt=0)
    """Seconds that an access token is good for."""
    refresh_grace: int = Field(default=30, ge=0)
    """Seconds in which a rotated refresh token may be sent again, for answers that got lost."""
    session_idle_ttl: int = Field(default=12 * 3600, gt=0)
    """Seconds without use after which a session ends."""
    session_ttl: int = Field(default=24 * 3600, gt=0)
    """Seconds after which a session ends, however much it is used."""
    remember_idle_ttl: int = Field(default=14 * 86400, gt=0)
    """As `session_idle_ttl`, for people who asked to be remembered."""
    remember_ttl: int = Field(default=60 * 86400, gt=0)
    """As `session_ttl`, for people who asked to be remembered."""
    fresh_ttl: int = Field(default=600, gt=0)
    """Seconds after entering their password in which people may do what is sensitive."""
    socket_check: float = Field(default=30, gt=0)
    """Seconds after which an open websocket of a `SocketUser` is looked at: whether their session is still live."""
    reset_ttl: int = Field(default=1800, gt=0)
    """Seconds that a link to set a new password is good for."""
    verify_ttl: int = Field(default=86400, gt=0)
    """Seconds that a link to verify an e-mail address is good for."""
    max_sessions: int = Field(default=20, ge=1)
    """Live sessions a user may have; the oldest is revoked for a new one."""
    cookie_secure: bool | None = None
    """Whether cookies are sent over HTTPS only; unset, they are in production."""
    password_min_length: int = Field(default=8, ge=1)
    """Characters a password needs."""
    hash_concurrency: int = Field(default=0, ge=0)
    """Passwords hashed at once, 64 MiB each; 0 means one for each CPU, four at the most."""


class FrontendSettings(SettingsGroup):
    """The pages that talk to this API."""

    url: str | None = None
    """Where people open the app; links in mails start with it, and CSRF accepts its origin."""
    dist: Path | None = None
    """A built frontend's directory, served from the same origin."""


class HTTPSettings(SettingsGroup):
    """What a request may be."""

    max_body_size: int = Field(default=2 * 1024 * 1024, gt=0)
    """Bytes of a request's body; a larger one is answered 413."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """JSON list of the networks that our own proxies are in: from them, and from nobody else, `X-Forwarded-For` is
    believed. Who comes over a Unix socket counts as 127.0.0.1."""

    @field_validator("trusted_proxies")
    @classmethod
    def _trust_somebody(cls, networks: tuple[IPvAnyNetwork, ...]) -> tuple[IPvAnyNetwork, ...]:
        if any(network.prefixlen == 0 for network in networks):
            raise ValueError("A network of everybody would let everybody choose their address")
        return networks


class LimitsSettings(SettingsGroup):
    """How often somebody may do something."""

    enabled: bool = True
    """Whether rate limits count; without it, everything is allowed."""


class TasksSettings(SettingsGroup):
    """How background tasks run."""

    broker_url: str = Field(default="db://", repr=False)
    """`db://` is the app's own database. `redis://`, `amqp://` and, as an experiment, `nats://` tell workers of its
    rows; `memory://` is for trying that out. The option `queue` says what queues there are called."""
    embedded: bool = True
    """Whether the app's own process runs tasks; without it, `appkit worker` does."""
    queues: tuple[str, ...] = ()
    """JSON list of the queues whose tasks this process runs; unset, it runs those of every queue."""
    concurrency: int = Field(default=10, ge=1)
    """Tasks that one process runs at once."""
    lease: PositiveSeconds = 60.0
    """Seconds after which the task of a process that died is given to another."""
    poll_interval: PositiveSeconds = 1.0
    """Seconds between looks for work that nobody announced; up to ten where PostgreSQL tells and there is none."""
    max_attempts: int = Field(default=5, ge=1)
    """Times a task is tried, crashes included, before it is dead."""
    retry_delay: float = Field(default=5.0, ge=0)
    """Seconds before a failed task is tried again; they double with each attempt, and vary by a quarter."""
    retry_max_delay: PositiveSeconds = 3600.0
    """Seconds that a failed task waits at the most."""
    keep_done: float = Field(default=86400.0, ge=0)
    """Seconds that a task which is done is kept, with its result."""
    keep_dead: float = Field(default=14 * 86400.0, ge=0)
    """Seconds that a task which is dead or was cancelled is kept."""
    notify: Literal["auto", "on", "off"] = "auto"
    """Whether a commit tells workers elsewhere of its tasks, by PostgreSQL's NOTIFY, which costs it a fifth of its
    speed. `auto` does where this process runs no tasks itself. Without it they look once a `TASKS_POLL_INTERVAL`."""
    shutdown_grace: float = Field(default=20.0, ge=0)
    """Seconds that running tasks have to finish when the process stops."""


class RedisSettings(SettingsGroup):
    """A Redis server shared by all instances."""

    url: str | None = Field(default=None, repr=False)
    """`redis://…`; `kit.redis` is its client."""


class MailSettings(SettingsGroup):
    """How mail leaves."""

    url: str = Field(default="console://", repr=False)
    """`console://` prints, `smtp://user:password@host:port` sends (`smtps://` with TLS from the first byte),
    `memory://` keeps. A password is only ever sent over TLS."""
    sender: str = Field(default="appkit <no-reply@localhost>", validation_alias="from")
    """The `From` of every mail."""
    templates: Path | None = None
    """A directory with templates of the app's own for mails about accounts, such as `reset_password.txt`."""


class SentrySettings(SettingsGroup):
    """Error reports to Sentry."""

    enabled: bool = False
    """Whether unhandled exceptions are reported."""
    dsn: SecretStr | None = None
    """The project's DSN."""


class LoggingSettings(SettingsGroup):
    """Log lines."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least level that is written."""
    format: Literal["json", "console"] | None = None
    """Unset, it is `json` in production and `console` elsewhere."""


class CorsSettings(SettingsGroup):
    """Other origins whose pages may call this API with cookies."""

    origins: tuple[str, ...] = ()
    """JSON list of origins, as in `["https://app.example.com"]`; CSRF accepts them too."""


class PluginsSettings(SettingsGroup):
    """Installed plugins."""

    disabled: tuple[str, ...] = ()
    """JSON list of plugins that are not loaded."""
    strict: bool = False
    """Whether a plugin that fails stops the start."""
    trace: bool = False
    """Whether each call of a hook is logged, with its time."""


class Settings(BaseSettings):
    """What an app reads from its environment, its `.env` file and its secrets directory.

    Subclass it for settings of your own, a group for each concern:

        class ShopSettings(SettingsGroup):
            currency: str = "EUR"  # SHOP_CURRENCY

        class MySettings(Settings):
            shop: ShopSettings = ShopSettings()

    Environment variables win over `.env`, which wins over files in the secrets directory, named as the variables.

    Raises:
        pydantic.ValidationError: When a variable's value is not acceptable; it names the variable, never the value.
        AppKitError: In production, when a setting is only good for trying things out.
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
    """`production` refuses settings that are only good for trying things out."""
    app_name: str = "appkit"
    """The app's name, in its API's title, its mails and its cookies."""
    api_prefix: str = "/api"
    """Where the routes are mounted."""
    watchdog: bool | None = None
    """Whether code that holds the event loop for more than 100 ms is logged, with its line; unset, it is in
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

    if (
        TYPE_CHECKING
    ):  # Type checkers would want every group as an object, and know none of BaseSettings' own arguments.

        def __init__(self, **values: Any) -> None: ...

    def group(self, kind: type[GroupT]) -> GroupT:
        """The group of this class: a plugin's, which has no attribute that a type checker knows.

        Raises:
            AppKitError: When nobody has registered it.
        """
        values = (getattr(self, name) for name in type(self).model_fields)
        found = next((value for value in values if isinstance(value, kind)), None)
        if found is None:
            raise AppKitError(f"There are no settings {kind.__name__}. Return them from register_settings().")
        return found

    @property
    def production(self) -> bool:
        """Whether this is the real thing."""
        return self.environment == "production"

    @property
    def secure_cookies(self) -> bool:
        """Whether cookies go over HTTPS only."""
        return self.production if self.auth.cookie_secure is None else self.auth.cookie_secure

    @property
    def signing_keys(self) -> tuple[bytes, ...]:
        """The secrets that tokens are verified with; the first signs.

        They are `AUTH_SECRET_KEYS`, or, outside production, the one kept in `.appkit/secret`.

        Raises:
            AppKitError: When there is none, and none can be kept.
        """
        if self.auth.secret_keys or self.production:
            return tuple(key.get_secret_value().encode() for key in self.auth.secret_keys)
        return (development_secret(),)

    def production_problems(self) -> list[str]:
        """What production would refuse, in sentences that name the variable."""
        problems = secret_problems([key.get_secret_value() for key in self.auth.secret_keys])
        if self.auth.cookie_secure is False:
            problems.append("AUTH_COOKIE_SECURE is false, which sends cookies over plain HTTP. Unset it.")
        if any("*" in origin for origin in self.cors.origins):
            problems.append("CORS_ORIGINS has a wildcard, which lets every website act for the people signed in.")
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
        """Where values come from, the strongest first."""
        sources = (env_settings, dotenv_settings, file_secret_settings)
        return init_settings, *(read_variables(settings_cls, source) for source in sources)


def describe_errors(exc: ValidationError) -> list[str]:
    """A line for each wrong setting, which names its variable and what is expected, and never the value."""
    return [
        f"{'.'.join(map(str, error['loc'])) or exc.title}: {error['msg']}"
        for error in exc.errors(include_url=False, include_context=False, include_input=False)
    ]
