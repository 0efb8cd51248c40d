"""Cache: values as JSON, in this process or in Redis, made once however many ask, and gone when what they show changes.

Of our own, for the libraries for it keep a value that was read before an invalidation and stored after it.
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
"""Seconds after which another process makes a value, when the one that began has not finished."""

_POLL: Final = 0.02


class _Missing(Enum):
    MISSING = 0


_MISSING: Final = _Missing.MISSING


class Cache:
    """Keeps what is expensive to make: `kit.cache`, or `self.cache` in a service.

    Values are kept as JSON and read back as the type you name: a schema, a `list[PostSchema]`, or a `TypeAdapter`
    where the type is no class. ORM objects are refused; what no longer fits its type is made anew.

    Tags say what a value shows. Once one of them is invalidated it is gone, even if it was just being made.
    When Redis is down, every value is made anew.

    Args:
        redis: Where all instances keep values together. Without it each process keeps its own, and invalidates its own.
        prefix: What keys in Redis start with.
        max_entries: How many values and tags a process keeps, the least recently used going first.
    """

    def __init__(self, redis: "Redis | None" = None, *, prefix: str = "appkit", max_entries: int = 10_000) -> None:
        self._store = _MemoryStore(max_entries) if redis is None else _RedisStore(redis, f"{prefix}:cache:")
        self._flights: dict[str, asyncio.Future[bytes | None]] = {}
        self._adapters: dict[Any, TypeAdapter[Any]] = {}

    async def get(self, key: str, type: type[ValueT] | TypeAdapter[ValueT]) -> ValueT | None:  # noqa: A002  # It reads best.
        """The value, or None where there is none."""
        value = await self._find(key, self._adapter(type), _names(key, ()))
        return None if value is _MISSING else value

    async def set(self, key: str, value: object, *, ttl: float, tags: Iterable[str] = ()) -> None:
        """Keep a value for `ttl` seconds. For what is read from a database, use `get_or_set`.

        Raises:
            AppKitError: When it can't be written as JSON.
        """
        payload = _dump(value)
        if tokens := await self._store.tokens(_names(key, tags), ttl):
            await self._store.write(f"value:{key}", _head(tokens) + payload, ttl)

    async def get_or_set(
        self,
        key: str,
        loader: Callable[[], Awaitable[object]],
        type: type[ValueT] | TypeAdapter[ValueT],  # noqa: A002
        *,
        ttl: float,
        tags: Iterable[str] = (),
    ) -> ValueT:
        """The value, made by `loader` where there is none: once, however many ask at the same time.

        What the loader raises is raised for everybody in this process who waited for it, and nothing is kept.

        Args:
            key: What the value is called.
            loader: Makes it. Let it open a read session: what one transaction has not committed, or read a while
                ago, is not for everybody.
            type: What it is read back as.
            ttl: Seconds to keep it.
            tags: What invalidates it.

        Raises:
            AppKitError: When it can't be written as JSON.
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
        """Forget these values, also those that are just being made."""
        await self._store.forget([f"key:{key}" for key in keys])

    async def invalidate(self, *tags: str) -> None:
        """Forget the values with any of these tags. In a transaction, `invalidate(db, …)` waits for the commit."""
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
        """Make the value while others in this process wait; they look for it after, or share the exception."""
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            value, unkept = await make()
        except Exception as exc:
            flight.set_exception(exc)
            raise
        else:
            flight.set_result(unkept)
            return value
        finally:
            del self._flights[key]
            flight.cancel()  # When this one was cancelled, somebody else takes over; what is done stays done.

    async def _make(
        self,
        key: str,
        adapter: TypeAdapter[ValueT],
        loader: Callable[[], Awaitable[object]],
        ttl: float,
        names: Sequence[str],
    ) -> tuple[ValueT, bytes | None]:
        """Make the value, unless another process does; with its JSON, when it could not be kept."""
        while (release := await self._store.lock(key)) is None:
            await asyncio.sleep(_POLL)
            if (value := await self._find(key, adapter, names)) is not _MISSING:
                return value, None
        try:
            if (value := await self._find(key, adapter, names)) is not _MISSING:  # Made since we looked.
                return value, None
            tokens = await self._store.tokens(names, ttl)  # Before it is read: an invalidation from here on counts.
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
        raise AppKitError(f"The cache keeps what can be written as JSON, so give it a schema. {exc}") from exc


def _head(tokens: dict[str, str]) -> bytes:
    return json.dumps(tokens).encode() + b"\n"


def _names(key: str, tags: Iterable[str]) -> list[str]:
    """A value's tags: its own, so that deleting it while it is made is an invalidation too, and the given ones."""
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
        return _nothing  # There is no other process.

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
        self._ask = BestEffort(redis, "Values are made anew each time, and invalidations are lost.").ask

    async def read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        return await self._ask(lambda: cast("_Bytes", self._redis.mget(self._keys(names))), [None] * len(names))

    async def write(self, name: str, value: bytes, ttl: float) -> None:
        await self._ask(lambda: self._redis.set(self._prefix + name, value, px=round(ttl * 1000)), None)

    async def tokens(self, names: Sequence[str], ttl: float) -> dict[str, str] | None:
        arguments = [uuid4().hex, str(round((ttl + LEASE) * 1000))]
        tokens = await self._ask(lambda: self._tokens(self._keys(names), arguments), None)
        return tokens and {name: token.decode() for name, token in zip(names, tokens, strict=True)}

    async def forget(self, names: Sequence[str]) -> None:
        await self._ask(lambda: self._redis.delete(*self._keys(names)), None, urgent=True)

    async def lock(self, key: str) -> Callable[[], Awaitable[None]] | None:
        """The right to make a value, as a function that gives it back; None while another process has it."""
        from redis.exceptions import LockError

        lock = self._redis.lock(f"{self._prefix}lock:{key}", timeout=LEASE)
        taken = await self._ask(lambda: lock.acquire(blocking=False), otherwise=None)
        if taken is None:  # No answer, so that everybody makes their own.
            return _nothing

        async def release() -> None:
            with suppress(LockError):  # It took longer than the lease.
                await lock.release()

        return partial(self._ask, release, None) if taken else None

    def _keys(self, names: Sequence[str]) -> list[str]:
        return [self._prefix + name for name in names]
