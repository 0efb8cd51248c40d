"""Rate limits: how often somebody may do something, counted in a moving window, in this process or in Redis."""

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
"""What is counted: an action's name, an address, an account."""


class Limiter:
    """An app's rate limits: `kit.limiter`, or `context.limiter` in a service.

    Keys are what a limit is counted for, first the action's name and then who does it:

        await limiter.hit("5/5 minutes", "signin", address, email_key)

    They are stored as one HMAC, so that nobody reads addresses in Redis. An IP address may be a string; an IPv6
    one counts as its /64, which is what one person has (RFC 6177), and IPv4 mapped to IPv6 as IPv4.

    When Redis is down, everything is allowed: a limit is no reason to lock everybody out.

    Args:
        settings: The app's. With `LIMITS_ENABLED=false`, nothing is counted and everything is allowed.
        redis: Where all instances count together; without it, each process counts for itself.
    """

    def __init__(self, settings: Settings, redis: "Redis | None" = None) -> None:
        self._settings = settings
        self._storage = _MemoryStorage() if redis is None else _redis_storage(redis, f"{settings.app_name}:limits")
        self._window = MovingWindowRateLimiter(self._storage)
        self._redis = BestEffort(redis, "Rate limits are not enforced.")

    async def hit(self, rule: str, *keys: Key) -> bool:
        """Count a call, or refuse it; a refused one isn't counted.

        To count failures only, count each attempt before it is made, and `clear` the key when it succeeds:
        attempts that run side by side are then counted too. Where a success must not clear the key, `test` it
        before, and `hit` it after a failure.

        Args:
            rule: How many in how long, as in `20/hour` or `5/10 minutes`.
            keys: What is counted; all of them together.

        Returns:
            False when it is allowed only because Redis is down, and wasn't counted.

        Raises:
            TooManyRequestsException: When there were too many; `Retry-After` says in how many seconds the next may be.
        """
        return await self._check("hit", rule, keys)

    async def test(self, rule: str, *keys: Key) -> bool:
        """As `hit`, without counting."""
        return await self._check("test", rule, keys)

    async def clear(self, rule: str, *keys: Key) -> None:
        """Forget what was counted for these keys by this rule."""
        item, name = parse_rule(rule), self._name(keys)
        await self._redis.ask(lambda: self._window.clear(item, name), None)

    async def _check(self, verb: Literal["hit", "test"], rule: str, keys: tuple[Key, ...]) -> bool:
        item, name = parse_rule(rule), self._name(keys)
        if not self._settings.limits.enabled:
            return True
        check = self._window.hit if verb == "hit" else self._window.test
        allowed: bool | None = await self._redis.ask(lambda: check(item, name), None)
        if allowed is False:
            news = str(keys[0]) if await self._is_news(item, name) else None
            raise TooManyRequestsException(retry_after=await self._retry_after(item, name), report_as=news)
        return allowed is not None

    async def _is_news(self, item: RateLimitItem, name: str) -> bool:
        """Whether this is the first refusal in a window: whoever is told must not hear of each one of a flood."""
        once = type(item)(1, item.multiples)
        return await self._redis.ask(lambda: self._window.hit(once, f"{name}:refused"), None) is True

    async def _retry_after(self, item: RateLimitItem, name: str) -> int:
        """Whole seconds until the oldest call leaves the window; one that is exactly as old as it is still counts."""
        stats = await self._redis.ask(lambda: self._window.get_window_stats(item, name), None)
        seconds = stats.reset_time - time.time() if stats else item.get_expiry()
        return max(1, math.floor(seconds) + 1)

    def _name(self, keys: tuple[Key, ...]) -> str:
        return hmac.digest(self._secret, json.dumps([_network(key) for key in keys]).encode(), hashlib.sha256).hex()

    @cached_property
    def _secret(self) -> bytes:
        """A key for this alone."""
        return derive(self._settings.signing_keys[0], "limits")


@cache
def parse_rule(rule: str) -> RateLimitItem:
    """Read a rule such as `20/hour`.

    Raises:
        AppKitError: When it isn't one.
    """
    try:
        (item,) = parse_many(rule)
    except ValueError:
        item = None
    if item is None or item.amount < 1:
        raise AppKitError(f"{rule!r} is not a rate limit. Write how many in how long: 20/hour, or 5/10 minutes.")
    return item


def _network(key: Key) -> str | int:
    """An IPv6 address's /64, an IPv4 address out of IPv6, and any other key as it is."""
    if not isinstance(key, Key):
        raise AppKitError(f"A rate limit counts for a string, a number, a UUID or an address, not for {key!r}.")
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
    # The URL is not used, for the client's connections are.
    pool: Any = redis.connection_pool
    return RedisStorage("async+redis://", implementation="redispy", key_prefix=prefix, connection_pool=pool)


class _MemoryStorage(MemoryStorage):
    """Calls in this process. The library's own looks at all keys after each call, every one in a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[str, deque[float]] = {}
        self._expires_at: dict[str, float] = {}
        self._sweep_at = 1000

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:  # noqa: ARG002  # It is 1.
        """Count a call unless there were `limit` within `expiry` seconds."""
        now = time.time()
        calls = self._calls.setdefault(key, deque(maxlen=limit))
        if len(calls) == limit and calls[0] >= now - expiry:
            return False
        calls.append(now)
        self._expires_at[key] = now + expiry
        if len(self._calls) >= self._sweep_at:
            self._sweep(now)
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002
        """When the oldest call of the window was, and how many there are."""
        now = time.time()
        calls = [call for call in self._calls.get(key, ()) if call >= now - expiry]
        return (calls[0] if calls else now), len(calls)

    async def clear(self, key: str) -> None:
        """Forget the calls."""
        self._calls.pop(key, None)
        self._expires_at.pop(key, None)

    def _sweep(self, now: float) -> None:
        for key in [key for key, expires_at in self._expires_at.items() if expires_at < now]:
            del self._calls[key], self._expires_at[key]
        self._sweep_at = max(1000, 2 * len(self._calls))
