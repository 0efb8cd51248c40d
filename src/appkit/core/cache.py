"""Cache: JSON values in this process or in Redis, loaded once for concurrent callers, and invalidated by tags.

appkit has its own cache because of one fault of other libraries: if a value is invalidated while it is being loaded,
they store the outdated value.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from appkit.core.redis import BestEffort
from appkit.exceptions import AppKitError

if TYPE_CHECKING:
    from redis.asyncio import Redis

ValueT = TypeVar("ValueT")
_Bytes = Awaitable[Sequence[bytes | None]]

LEASE: Final = 10.0
"""Seconds for which a process may load a value alone. After that, another process may load the value too."""

_POLL: Final = 0.02


class _Missing(Enum):
    MISSING = 0


_MISSING: Final = _Missing.MISSING


class Cache:
    """Stores values that are expensive to load: `kit.cache`, or `self.cache` in a service.

    Values are stored as JSON, and read as the type that you give: a schema, a `list[PostSchema]`, or a `TypeAdapter` if
    the type is no class. ORM objects are refused. A stored value that doesn't fit the type is loaded again.

    Tags say which data a value is made of. Invalidating a tag removes all values with this tag, including values that
    are being loaded at that moment. When Redis is down, every value is loaded again.

    Args:
        redis: The client of a Redis that all instances share. Without Redis, each process has its own values and tags.
        max_entries: The number of values and tags that a process stores. The least recently used are evicted first.
    """

    def __init__(self, redis: "Redis | None" = None, *, prefix: str = "appkit", max_entries: int = 10_000) -> None:
        self._store = _MemoryStore(max_entries) if redis is None else _RedisStore(redis, f"{prefix}:cache:")
        self._flights: dict[str, asyncio.Future[bytes | None]] = {}
        self._adapters: dict[Any, TypeAdapter[Any]] = {}

    async def get(self, key: str, type: type[ValueT] | TypeAdapter[ValueT]) -> ValueT | None:  # noqa: A002  # a public keyword
        """Return the value, or None if there is none."""
        value = await self._find(key, self._adapter(type), _names(key, ()))
        return None if value is _MISSING else value

    async def set(self, key: str, value: object, *, ttl: float, tags: Iterable[str] = ()) -> None:
        """Store a value for `ttl` seconds. If the value comes from a database, use `get_or_set`.

        Raises:
            AppKitError: When the value can't be serialised as JSON.
        """
        payload = _dump(value)
        if tokens := await self._store.tokens(_names(key, tags), ttl):
            await self._store.write(f"value:{key}", _head(tokens) + payload, ttl)

    async def get_or_set(
        self,
        key: str,
        loader: Callable[[], Awaitable[object]],
        type: type[ValueT] | TypeAdapter[ValueT],  # noqa: A002 - the natural name for callers
        *,
        ttl: float,
        tags: Iterable[str] = (),
    ) -> ValueT:
        """Return the value. If there is none, load and store it. For concurrent callers, the value is loaded once.

        If the loader raises, all waiting callers in this process get the exception, and nothing is stored.

        Args:
            loader: Loads the value. Open a new read session in the loader. Otherwise uncommitted or stale data of one
                transaction is stored for everyone.
            ttl: Seconds for which the value is stored.

        Raises:
            AppKitError: When the value can't be serialised as JSON.
        """
        adapter, names = self._adapter(type), _names(key, tags)
        while (value := await self._find(key, adapter, names)) is _MISSING:
            if (flight := self._flights.get(key)) is None:
                return await self._lead(key, partial(self._make, key, adapter, loader, ttl, names))
            await asyncio.wait([flight])
            if not flight.cancelled() and (payload := flight.result()) is not None:
                return adapter.validate_json(payload)
        return value

    async def delete(self, *keys: str) -> None:
        """Remove values, including values that are being loaded at this moment."""
        await self._store.forget([f"key:{key}" for key in keys])

    async def invalidate(self, *tags: str) -> None:
        """Remove values with any of these tags now. `appkit.invalidate(db, …)` does this after the commit."""
        await self._store.forget([f"tag:{tag}" for tag in tags])

    def _adapter(self, kind: "type[ValueT] | TypeAdapter[ValueT]") -> TypeAdapter[ValueT]:
        if isinstance(kind, TypeAdapter):
            return kind
        if kind not in self._adapters:
            self._adapters[kind] = TypeAdapter(kind)
        return self._adapters[kind]

    async def _find(self, key: str, adapter: TypeAdapter[ValueT], names: Sequence[str]) -> ValueT | _Missing:
        entry, *known = await self._store.read([f"value:{key}", *names])
        if entry is None:
            return _MISSING
        header, _, payload = entry.partition(b"\n")
        tokens: dict[str, str] = json.loads(header)
        current = dict(zip(names, known, strict=True))
        if unread := [name for name in tokens if name not in current]:
            current |= zip(unread, await self._store.read(unread), strict=True)
        if any(current[name] != token.encode() for name, token in tokens.items()):
            return _MISSING
        try:
            return adapter.validate_json(payload)
        except ValidationError:
            return _MISSING

    async def _lead(self, key: str, make: Callable[[], Awaitable[tuple[ValueT, bytes | None]]]) -> ValueT:
        """Load the value while other callers in this process wait. These get the same value or exception."""
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            value, unstored = await make()
        except Exception as exc:
            flight.set_exception(exc)
            raise
        else:
            flight.set_result(unstored)
            return value
        finally:
            del self._flights[key]
            flight.cancel()  # If this caller was cancelled, another one loads the value. Otherwise this does nothing.

    async def _make(
        self,
        key: str,
        adapter: TypeAdapter[ValueT],
        loader: Callable[[], Awaitable[object]],
        ttl: float,
        names: Sequence[str],
    ) -> tuple[ValueT, bytes | None]:
        """Load the value, unless another process loads it. Returns the value, and the JSON if it was not stored."""
        while (release := await self._store.lock(key)) is None:
            await asyncio.sleep(_POLL)
            if (value := await self._find(key, adapter, names)) is not _MISSING:
                return value, None
        try:
            if (value := await self._find(key, adapter, names)) is not _MISSING:  # Another process has just stored it.
                return value, None
            # Read the tokens before loading the value: an invalidation in the meantime deletes them.
            tokens = await self._store.tokens(names, ttl)
            payload = _dump(await loader())
            if tokens:
                await self._store.write(f"value:{key}", _head(tokens) + payload, ttl)
            return adapter.validate_json(payload), None if tokens else payload
        finally:
            await release()


def _dump(value: object) -> bytes:
    try:
        return to_json(value, round_trip=True)
    except PydanticSerializationError as exc:
        raise AppKitError(f"The cache can't serialise a value as JSON. Use a schema instead. {exc}") from exc


def _head(tokens: dict[str, str]) -> bytes:
    return json.dumps(tokens).encode() + b"\n"


def _names(key: str, tags: Iterable[str]) -> list[str]:
    """The names of a value's tokens: for its key, and for each tag. If a token is gone, the value is invalid."""
    return [f"key:{key}", *(f"tag:{tag}" for tag in tags)]


async def _nothing() -> None:
    pass


class _MemoryStore:
    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        return [self._get(name) for name in names]

    async def write(self, name: str, value: bytes, ttl: float) -> None:
        self._entries[name] = (monotonic() + ttl, value)
        self._entries.move_to_end(name)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    async def tokens(self, names: Sequence[str], ttl: float) -> dict[str, str] | None:
        tokens = {name: self._get(name) or uuid4().hex.encode() for name in names}
        for name, token in tokens.items():
            expires_at, _ = self._entries.get(name, (0.0, b""))
            await self.write(name, token, max(ttl, expires_at - monotonic()))
        return {name: token.decode() for name, token in tokens.items()}

    async def forget(self, names: Sequence[str]) -> None:
        for name in names:
            self._entries.pop(name, None)

    async def lock(self, _: str) -> Callable[[], Awaitable[None]] | None:
        return _nothing  # No other process shares this store.

    def _get(self, name: str) -> bytes | None:
        expires_at, value = self._entries.get(name, (0.0, None))
        if expires_at <= monotonic():
            self._entries.pop(name, None)
            return None
        self._entries.move_to_end(name)
        return value


_TOKENS: Final = """
for index, name in ipairs(KEYS) do
    redis.call("SET", name, ARGV[1], "PX", ARGV[2], "NX")
    if redis.call("PTTL", name) < tonumber(ARGV[2]) then
        redis.call("PEXPIRE", name, ARGV[2])
    end
end
return redis.call("MGET", unpack(KEYS))
"""


class _RedisStore:
    def __init__(self, redis: "Redis", prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._tokens = redis.register_script(_TOKENS)
        self._call = BestEffort(redis, "Each process loads values anew, and invalidations are lost.").call

    async def read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        return await self._call(lambda: cast("_Bytes", self._redis.mget(self._keys(names))), [None] * len(names))

    async def write(self, name: str, value: bytes, ttl: float) -> None:
        await self._call(lambda: self._redis.set(self._prefix + name, value, px=round(ttl * 1000)), None)

    async def tokens(self, names: Sequence[str], ttl: float) -> dict[str, str] | None:
        arguments = [uuid4().hex, str(round((ttl + LEASE) * 1000))]
        tokens = await self._call(lambda: self._tokens(self._keys(names), arguments), None)
        return tokens and {name: token.decode() for name, token in zip(names, tokens, strict=True)}

    async def forget(self, names: Sequence[str]) -> None:
        await self._call(lambda: self._redis.delete(*self._keys(names)), None, urgent=True)

    async def lock(self, key: str) -> Callable[[], Awaitable[None]] | None:
        """Lock a value for loading. Returns a function to unlock it, or None if another process has the lock."""
        from redis.exceptions import LockError

        lock = self._redis.lock(f"{self._prefix}lock:{key}", timeout=LEASE)
        taken = await self._call(lambda: lock.acquire(blocking=False), otherwise=None)
        if taken is None:  # Redis is down, so each process loads the value.
            return _nothing

        async def release() -> None:
            with suppress(LockError):  # Loading took longer than the lease.
                await lock.release()

        return partial(self._call, release, None) if taken else None

    def _keys(self, names: Sequence[str]) -> list[str]:
        return [self._prefix + name for name in names]
