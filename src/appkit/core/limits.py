"""Rate limits: how often an action is allowed in a moving window. Calls are counted in this process or in Redis."""

import hashlib
import hmac
import json
import math
import time
from collections import deque
from functools import cache, cached_property
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from appkit.core.keys import derive
from appkit.core.redis import BestEffort
from appkit.core.settings import Settings
from appkit.exceptions import AppKitError, TooManyRequestsException

if TYPE_CHECKING:
    from redis.asyncio import Redis

Key = str | int | UUID | IPv4Address | IPv6Address
"""A part of a counter's name: an action, an IP address or an account."""


class Limiter:
    """An app's rate limits: `kit.limiter`, or `context.limiter` in a service.

    The keys name a counter: first the action's name, then the client or the account.

        await limiter.hit("5/5 minutes", "signin", ip_address, email_key)

    Only an HMAC of the keys is stored, so Redis contains no IP or e-mail address. An IP address may be a string. An
    IPv6 address counts as its /64, because one client has a whole /64 (RFC 6177). IPv4 mapped to IPv6 counts as IPv4.

    With Redis, all instances count together. Without Redis, each process counts alone. While Redis is down, or with
    `LIMITS_ENABLED=false`, every call is allowed and nothing is counted.
    """

    def __init__(self, settings: Settings, redis: "Redis | None" = None) -> None:
        self._settings = settings
        self._storage = _MemoryStorage() if redis is None else _redis_storage(redis, f"{settings.app_name}:limits")
        self._window = MovingWindowRateLimiter(self._storage)
        self._redis = BestEffort(redis, "Rate limits are not enforced.")

    async def hit(self, rule: str, *keys: Key) -> bool:
        """Count a call, or refuse the call. `rule` is the limit, such as `20/hour` or `5/10 minutes`.

        Refused calls aren't counted. To limit failures, call `hit` before an attempt and `clear` after a success. Then
        concurrent attempts count too. If a success must not reset the counter, call `test` before an attempt, and
        `hit` after a failure.

        Returns:
            False while Redis is down: the call is allowed, but not counted.

        Raises:
            TooManyRequestsException: When the limit is reached. `Retry-After` says when the next call is allowed.
        """
        return await self._check("hit", rule, keys)

    async def test(self, rule: str, *keys: Key) -> bool:
        """Refuse a call as `hit` does, but never count the call."""
        return await self._check("test", rule, keys)

    async def clear(self, rule: str, *keys: Key) -> None:
        """Reset the counter of these keys and this rule."""
        item, name = parse_rule(rule), self._name(keys)
        await self._redis.call(lambda: self._window.clear(item, name), None)

    async def _check(self, verb: Literal["hit", "test"], rule: str, keys: tuple[Key, ...]) -> bool:
        item, name = parse_rule(rule), self._name(keys)
        if not self._settings.limits.enabled:
            return True
        check = self._window.hit if verb == "hit" else self._window.test
        allowed: bool | None = await self._redis.call(lambda: check(item, name), None)
        if allowed is False:
            report_as = str(keys[0]) if await self._is_first_refusal(item, name) else None
            raise TooManyRequestsException(retry_after=await self._retry_after(item, name), report_as=report_as)
        return allowed is not None

    async def _is_first_refusal(self, item: RateLimitItem, name: str) -> bool:
        """Whether this is the first refusal in a window. Only the first one emits an event."""
        once = type(item)(1, item.multiples)
        return await self._redis.call(lambda: self._window.hit(once, f"{name}:refused"), None) is True

    async def _retry_after(self, item: RateLimitItem, name: str) -> int:
        """Whole seconds until the oldest call is older than the window, at least 1."""
        stats = await self._redis.call(lambda: self._window.get_window_stats(item, name), None)
        seconds = stats.reset_time - time.time() if stats else item.get_expiry()
        return max(1, math.floor(seconds) + 1)

    def _name(self, keys: tuple[Key, ...]) -> str:
        return hmac.digest(self._secret, json.dumps([_network(key) for key in keys]).encode(), hashlib.sha256).hex()

    @cached_property
    def _secret(self) -> bytes:
        return derive(self._settings.signing_keys[0], "limits")


@cache
def parse_rule(rule: str) -> RateLimitItem:
    """Parse a rule such as `20/hour`.

    Raises:
        AppKitError: When the rule is not valid.
    """
    try:
        (item,) = parse_many(rule)
    except ValueError:
        item = None
    if item is None or item.amount < 1:
        raise AppKitError(f"{rule!r} is not a rate limit. Write an amount and a period: 20/hour, or 5/10 minutes.")
    return item


def _network(key: Key) -> str | int:
    """The /64 of an IPv6 address, the IPv4 address that is mapped to IPv6, or another key unchanged."""
    if not isinstance(key, Key):
        raise AppKitError(f"A rate limit's key is a string, a number, a UUID or an IP address, not {key!r}.")
    if isinstance(key, int):
        return key
    try:
        address = ip_address(str(key))
    except ValueError:
        return str(key)
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Network((int(address), 64), strict=False))
    return str(address)


def _redis_storage(redis: "Redis", prefix: str) -> RedisStorage:
    # The URL isn't used, because the storage gets the client's connection pool.
    pool: Any = redis.connection_pool
    return RedisStorage("async+redis://", implementation="redispy", key_prefix=prefix, connection_pool=pool)


class _MemoryStorage(MemoryStorage):
    """Counts in this process. The base class is slow: after each call, it checks all keys, and each one in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[str, deque[float]] = {}
        self._expires_at: dict[str, float] = {}
        self._sweep_at = 1000

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:  # noqa: ARG002  # `amount` is always 1.
        """Count a call, unless there were `limit` calls within `expiry` seconds. Returns whether it was counted."""
        now = time.time()
        calls = self._calls.setdefault(key, deque(maxlen=limit))
        if len(calls) == limit and calls[0] >= now - expiry:
            return False
        calls.append(now)
        self._expires_at[key] = now + expiry
        if len(self._calls) >= self._sweep_at:
            self._sweep(now)
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002 - the interface of limits
        """The time of the oldest call in the window, and the number of calls."""
        now = time.time()
        calls = [call for call in self._calls.get(key, ()) if call >= now - expiry]
        return (calls[0] if calls else now), len(calls)

    async def clear(self, key: str) -> None:
        """Delete the calls of a key."""
        self._calls.pop(key, None)
        self._expires_at.pop(key, None)

    def _sweep(self, now: float) -> None:
        for key in [key for key, expires_at in self._expires_at.items() if expires_at < now]:
            del self._calls[key], self._expires_at[key]
        self._sweep_at = max(1000, 2 * len(self._calls))
