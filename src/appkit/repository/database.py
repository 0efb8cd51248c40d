"""Database: the engines and database sessions of an app, and hooks that run after a commit."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import cached_property
from inspect import isawaitable
from itertools import cycle
from typing import Any, Protocol, TypeVar

from sqlalchemy import URL, MetaData, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from appkit.core.encryption import Cipher
from appkit.core.mail import Mailer
from appkit.core.settings import DatabaseSettings, Settings
from appkit.exceptions import AppKitError, ServiceUnavailableException
from appkit.plugins.manager import PluginManager
from appkit.repository.base import Base
from appkit.repository.engines import create_engine
from appkit.repository.errors import retry, translate
from appkit.repository.reading import ReadingSession, TrackedSession, WritingSession, needs_primary
from appkit.repository.sqlite import WriterPool

T = TypeVar("T")
_DRIVERS = {"postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
_HOOKS = "appkit.on_commit"
_REPLICA_TIMEOUT = 2.0  # seconds to connect to a replica

_logger = logging.getLogger(__name__)


class Hook(Protocol):
    """A function without arguments, sync or async."""

    def __call__(self) -> Awaitable[None] | None:
        """Run the function."""


class App(Protocol):
    """The part of `AppContext` that the data layer uses. Importing `AppContext` would be circular."""

    settings: Settings
    plugins: PluginManager
    mailer: Mailer
    wake: Hook
    works: bool  # Whether this process runs tasks.


class Database:
    """An app's database: `session()` begins a unit of work, `dispose()` closes all connections.

    SQLite allows only one writer at a time. All sessions that write wait for the same connection. Sessions that read
    have their own connections and never wait for a writer.

    Args:
        settings: The settings, or a URL. `postgresql://` uses asyncpg, and `sqlite://` uses aiosqlite.
        metadata: The tables, for an app that declares them on its own base class.

    Raises:
        AppKitError: When the URL can't be parsed, names an in-memory database, or needs a driver that is not installed.
    """

    context: App | None = None
    """The `AppContext`, which each session gets. `AppKit` sets it."""

    def __init__(self, settings: DatabaseSettings | str, *, metadata: MetaData = Base.metadata) -> None:
        if isinstance(settings, str):
            settings = DatabaseSettings(url=settings)
        self.settings = settings
        self.metadata = metadata
        self.url = parse_url(settings.url)
        self.engine = self._create_engine(self.url, writer=True)
        self.readers = self._create_engine(self.url) if self.sqlite else self.engine
        self._replicas = [self._create_engine(parse_url(url), primary=self.url) for url in settings.replica_urls]
        self._writing = TrackedSession if self._replicas else WritingSession
        self._next_replica = cycle([_read_only(engine) for engine in self._replicas or [self.readers]])
        self._primary_reader = _read_only(self.readers)
        self._open: dict[asyncio.Task[Any] | None, UnitOfWork] = {}
        for engine in self.engines:
            engine.dialect.appkit_database = self  # type: ignore[attr-defined] # for `EncryptedString`

    @cached_property
    def cipher(self) -> Cipher:
        """Encrypts `EncryptedString` columns. If the database belongs to no app, set this attribute yourself.

        Raises:
            AppKitError: When the database belongs to no app and therefore has no keys.
        """
        if self.context is None:
            raise AppKitError(
                "This database belongs to no app, so it has no keys for encrypted columns. Use `kit.session()`, "
                "or set `database.cipher` to a Cipher of appkit.core.encryption."
            )
        return Cipher(self.context.settings.signing_keys)

    @property
    def engines(self) -> set[AsyncEngine]:
        """The engines of the writer, of the readers and of the replicas."""
        return {self.engine, self.readers, *self._replicas}

    @property
    def sqlite(self) -> bool:
        """Whether the database is a SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    def session(self, *, reader: bool = False) -> AbstractAsyncContextManager[AsyncSession]:
        """One unit of work: committed when the block ends, rolled back when the block raises.

        Objects can still be read after the commit. Database errors are translated when the block ends. Inside the
        block, you can catch SQLAlchemy's `IntegrityError` around a savepoint (`begin_nested()`).

        `reader` is for work that probably writes nothing. On SQLite, the session doesn't wait for a writer. But if
        another session commits between this session's first read and its first write, the write fails with a 503.

        Raises:
            ConstraintViolatedException: When a constraint refuses a row.
            StaleVersionException: When a row of a `Versioned` model was changed in the meantime.
            ServiceUnavailableException: When the database can't be reached, no connection is free in time, or the
                error is temporary, such as a deadlock or a lock timeout.
            AppKitError: When this asyncio task has another session that writes to SQLite, which would be a deadlock.
        """
        return self._unit_of_work(self.readers if reader else self.engine)

    def read_session(self, *, primary: bool = False) -> AbstractAsyncContextManager[AsyncSession]:
        """A session that only reads, from a replica if the app has replicas.

        There is no transaction: each statement sees the latest commits. The session reads from the primary in three
        cases: with `primary`, if the replica can't be reached, and if the request's client wrote in the last
        `DATABASE_REPLICA_LAG` seconds.

        Raises:
            AppKitError: When the session is used to write.
        """
        primary = primary or needs_primary()
        return self._unit_of_work(self._primary_reader if primary else next(self._next_replica), read_only=True)

    def joined_session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A new unit of work. If this asyncio task has an open one, join it: it stays open after the block."""
        # A context variable is no alternative: a child task would inherit its parent's session, and may outlive it.
        session = self._open.get(asyncio.current_task())
        return self.session() if session is None or session.closed else nullcontext(session)

    async def run(self, work: Callable[[AsyncSession], Awaitable[T]], *, attempts: int = 3) -> T:
        """Run a unit of work, at most `attempts` times. Each attempt gets a new session, which is committed afterwards.

        A retry follows a deadlock, a serialisation failure, or a lock of another process on a SQLite file. The rollback
        undoes only changes to the database. For other effects of `work`, use events and `on_commit`.
        For PostgreSQL's strictest isolation, begin `work` with
        `await db.connection(execution_options={"isolation_level": "SERIALIZABLE"})`.

        Raises:
            ServiceUnavailableException: When the last attempt fails as well.
        """

        async def attempt() -> T:
            async with self.session() as session:
                return await work(session)

        return await retry(attempt, attempts)

    async def ping(self, timeout: float = 2.0) -> None:
        """Check that the database answers within `timeout` seconds, or raise `ServiceUnavailableException`."""
        try:
            async with asyncio.timeout(timeout), self.readers.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, TimeoutError) as exc:
            raise ServiceUnavailableException from exc

    async def create_all(self) -> None:
        """Create the missing tables, for tests and scripts. Apps use migrations."""
        async with self.engine.begin() as connection:
            await connection.run_sync(self.metadata.create_all)

    async def dispose(self) -> None:
        """Close every connection. The database can be used again afterwards, even in another event loop."""
        for engine in self.engines:
            await engine.dispose()

    @asynccontextmanager
    async def _unit_of_work(self, engine: AsyncEngine, *, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        session = UnitOfWork(
            engine,
            expire_on_commit=False,
            close_resets_only=False,  # Using a session after its end would leak a connection.
            info={} if self.context is None else {"appkit": self.context},
            sync_session_class=ReadingSession if read_only else self._writing,
        )
        task = asyncio.current_task()
        outer = self._open.get(task)
        if not read_only:
            self._open[task] = session
        try:
            async with session:  # Closing is shielded, so that a cancelled task doesn't leak a connection.
                yield session
                if not (read_only or session.closed):
                    await session.commit()
        except SQLAlchemyError as exc:
            translated = translate(exc, self.metadata)
            if translated is None:
                raise
            raise translated from exc
        finally:
            if outer is not None:
                self._open[task] = outer
            elif not read_only:
                self._open.pop(task, None)

    def _create_engine(self, url: URL, *, writer: bool = False, primary: URL | None = None) -> AsyncEngine:
        pool: dict[str, Any] = {
            "pool_size": self.settings.pool_size,
            "max_overflow": self.settings.pool_size,
            "pool_timeout": self.settings.pool_timeout,
            "pool_use_lifo": True,
        }
        if url.get_backend_name() != "sqlite":
            pool |= {"pool_recycle": 1800, "statement_timeout": self.settings.statement_timeout}
            timeout = min(self.settings.pool_timeout, _REPLICA_TIMEOUT if primary else math.inf)
            return create_engine(url, timeout, primary=primary, **pool)
        if writer:
            pool |= {"poolclass": WriterPool, "pool_size": 1, "max_overflow": 0, "pool_use_lifo": False}
        return create_engine(url, self.settings.pool_timeout, begin="BEGIN IMMEDIATE" if writer else "BEGIN", **pool)


class UnitOfWork(AsyncSession):
    """A database session that `Database` opened. It runs the hooks of `on_commit`."""

    closed = False

    async def commit(self) -> None:
        """Commit, then run the hooks. The error of a hook is only logged, because the data is committed already."""
        await super().commit()
        for _, hook in self.info.pop(_HOOKS, []):
            try:
                result = hook()
                if isawaitable(result):
                    await result
            except Exception:
                _logger.exception("An on_commit() hook failed. The commit itself succeeded.")

    async def close(self) -> None:
        """Release the connection, and remove the hooks that wait for a commit."""
        self.closed = True
        self.info.pop(_HOOKS, None)
        await super().close()


def on_commit(session: AsyncSession, hook: Hook) -> None:
    """Call a function after the session's commit, unless the session or the current savepoint is rolled back.

    Raises:
        AppKitError: When the session was not opened by a `Database`.
    """
    if not isinstance(session, UnitOfWork):
        raise AppKitError("on_commit() needs a session that a Database opened: `async with database.session() as db`.")
    session.info.setdefault(_HOOKS, []).append((session.sync_session.get_nested_transaction(), hook))


@event.listens_for(WritingSession, "after_soft_rollback", propagate=True)
def _drop_hooks(session: Session, rolled_back: SessionTransaction) -> None:
    def kept(savepoint: SessionTransaction | None) -> bool:
        while savepoint is not None and savepoint is not rolled_back:
            savepoint = savepoint.parent
        return rolled_back.nested and savepoint is None

    session.info[_HOOKS] = [(savepoint, hook) for savepoint, hook in session.info.get(_HOOKS, ()) if kept(savepoint)]


def parse_url(value: str) -> URL:
    """The URL with an async driver. An in-memory database is an error."""
    try:
        url = make_url(value)
        url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
        driver = url.get_driver_name()
    except ArgumentError:
        raise AppKitError("DATABASE_URL is not a URL like postgresql://user:password@host/name.") from None
    if url.get_backend_name() == "sqlite":
        if not url.database or ":memory:" in url.database or url.query.get("mode") == "memory":
            raise AppKitError(
                "A SQLite database in memory belongs to one connection, but sessions need several. "
                "Use a file, as in sqlite:///./app.db; in tests, one in a temporary directory."
            )
    elif driver == "asyncpg" and "sslmode" in url.query:  # asyncpg's name for libpq's `sslmode` is `ssl`.
        url = url.update_query_dict({"ssl": url.query["sslmode"]}).difference_update_query(["sslmode"])
    return url


def _read_only(engine: AsyncEngine) -> AsyncEngine:
    if engine.dialect.name == "sqlite":
        return engine.execution_options(query_only=True)
    return engine.execution_options(isolation_level="AUTOCOMMIT")  # Each session saves two round trips.
