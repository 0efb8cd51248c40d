"""Rate limits: the same counts in memory and in Redis, for the right people, and never a lock-out for want of Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from appkit.core import redis as core_redis
from appkit.core.limits import Limiter, parse_rule
from appkit.core.redis import BestEffort
from appkit.core.settings import Settings
from appkit.exceptions import AppKitError, TooManyRequestsException

SECRET = "for tests alone, where anybody may read it"


class Clock:
    """What the time is."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


def settings_for(app_name: str = "desk", *, secret: str = SECRET, enabled: bool = True) -> Settings:
    return Settings(
        _env_file=None, app_name=app_name, auth={"secret_keys": (SecretStr(secret),)}, limits={"enabled": enabled}
    )


@pytest.fixture
def redis_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the time is for those who wait until Redis may answer again."""
    clock = Clock()
    monkeypatch.setattr(core_redis, "monotonic", clock)
    return clock


@pytest.fixture
async def redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator["Redis"]:
    monkeypatch.setattr(core_redis, "TIMEOUT", 30.0)  # On a busy machine answers take longer.
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(params=["memory", "redis"])
def limiter(request: pytest.FixtureRequest) -> Limiter:
    if request.param == "memory":
        return Limiter(settings_for())
    return Limiter(settings_for(request.getfixturevalue("redis_prefix")), request.getfixturevalue("redis"))


async def refused(limiter: Limiter, rule: str, *keys: Any) -> int:
    """How many seconds a refused call is told to wait."""
    with pytest.raises(TooManyRequestsException) as caught:
        await limiter.hit(rule, *keys)
    return int(caught.value.headers["Retry-After"])


async def test_hit_refuses_what_is_too_much_and_says_when_to_come_back(limiter: Limiter, clock: Clock):
    """Not a second too early: who waits as told is let in, and who waits a second less isn't."""
    for _ in range(3):
        assert await limiter.hit("3/minute", "search", "ada") is True
        clock.now += 10.25
    assert await refused(limiter, "3/minute", "search", "ada") == 30
    clock.now += 29
    assert await refused(limiter, "3/minute", "search", "ada") == 1
    clock.now += 1
    assert await limiter.hit("3/minute", "search", "ada") is True
    assert await refused(limiter, "3/minute", "search", "ada") == 10


async def test_retry_after_is_right_to_the_second(limiter: Limiter, clock: Clock):
    """A call that is exactly as old as the window is long still counts."""
    await limiter.hit("1/minute", "search")
    assert await refused(limiter, "1/minute", "search") == 61
    clock.now += 60
    assert await refused(limiter, "1/minute", "search") == 1
    clock.now += 1
    assert await limiter.hit("1/minute", "search") is True


async def test_window_moves(limiter: Limiter, clock: Clock):
    """With fixed minutes, twice the limit would pass around the turn of one."""
    clock.now = 1_800_000_000.0 - 1_800_000_000.0 % 60 + 59
    for _ in range(3):
        await limiter.hit("3/minute", "search")
    clock.now += 2
    await refused(limiter, "3/minute", "search")


async def test_refused_calls_are_not_counted(limiter: Limiter, clock: Clock):
    await limiter.hit("1/minute", "search")
    for _ in range(5):
        clock.now += 10
        await refused(limiter, "1/minute", "search")
    clock.now += 11
    assert await limiter.hit("1/minute", "search") is True


async def test_calls_side_by_side_are_counted(limiter: Limiter):
    answers = await asyncio.gather(*(limiter.hit("5/minute", "search") for _ in range(30)), return_exceptions=True)
    assert [answer for answer in answers if answer is True] == [True] * 5


async def test_test_counts_nothing_and_refuses_where_a_hit_would_be(limiter: Limiter):
    for _ in range(3):
        assert await limiter.test("1/minute", "signin") is True
    await limiter.hit("1/minute", "signin")
    with pytest.raises(TooManyRequestsException) as caught:
        await limiter.test("1/minute", "signin")
    assert 55 <= int(caught.value.headers["Retry-After"]) <= 60


async def test_clear_forgets_one_key(limiter: Limiter):
    for name in ("ada", "eve"):
        await limiter.hit("1/minute", "signin", name)
    await limiter.clear("1/minute", "signin", "ada")
    assert await limiter.hit("1/minute", "signin", "ada") is True
    await refused(limiter, "1/minute", "signin", "eve")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("signin", "ada"), ("signup", "ada")),
        (("a", "bc"), ("ab", "c")),
        (("a/b", "c"), ("a", "b/c")),
        (("a", "b"), ("b", "a")),
        (("a",), ("a", "")),
        (("198.51.100.7",), ("198.51.100.8",)),
        (("2001:db8:1:2::1",), ("2001:db8:1:3::1",)),
        (("::ffff:198.51.100.7",), ("::ffff:198.51.100.8",)),
    ],
)
async def test_different_keys_count_apart(one: tuple[str, ...], other: tuple[str, ...]):
    limiter = Limiter(settings_for())
    await limiter.hit("1/minute", *one)
    assert await limiter.hit("1/minute", *other) is True


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("2001:db8:1:2::1", "2001:DB8:0001:0002::1"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("::ffff:c633:6407", "198.51.100.7"),
        (ip_address("198.51.100.7"), "198.51.100.7"),
        (UUID(int=7), str(UUID(int=7))),
    ],
)
async def test_one_person_has_one_key(one: Any, other: Any):
    limiter = Limiter(settings_for())
    await limiter.hit("1/minute", one)
    await refused(limiter, "1/minute", other)


@pytest.mark.parametrize("key", [None, object(), b"ada", 1.5, ["ada"]])
async def test_key_that_says_nothing_of_whom_it_counts_is_refused(key: Any):
    """An object's repr has its address in it, so that each call would count for itself."""
    with pytest.raises(AppKitError, match="A rate limit's key is"):
        await Limiter(settings_for()).hit("1/minute", key)


@pytest.mark.parametrize("key", ["\ud800", "\x00", "ß@example.com", "x" * 1_000_000])
async def test_any_string_is_a_key(limiter: Limiter, key: str):
    await limiter.hit("1/minute", key)
    await refused(limiter, "1/minute", key)


async def test_redis_holds_no_address(redis: "Redis", redis_prefix: str):
    limiter = Limiter(settings_for(redis_prefix), redis)
    await limiter.hit("5/minute", "signin", "ada@example.com", "198.51.100.7")
    (key,) = [key async for key in redis.scan_iter(f"{redis_prefix}*")]
    assert not any(known in key for known in (b"ada", b"example", b"198"))
    assert 0 < await redis.ttl(key) <= 60


async def test_keys_in_redis_can_be_guessed_by_nobody_without_the_secret(redis: "Redis", redis_prefix: str):
    """A plain hash of an address can be found by trying addresses."""
    for secret in (SECRET, SECRET[::-1]):
        await Limiter(settings_for(redis_prefix, secret=secret), redis).hit("5/minute", "signin", "ada@example.com")
    assert len([key async for key in redis.scan_iter(f"{redis_prefix}*")]) == 2


async def test_instances_count_together_in_redis(redis: "Redis", redis_prefix: str):
    settings = settings_for(redis_prefix)
    await Limiter(settings, redis).hit("1/minute", "signin")
    await refused(Limiter(settings, redis), "1/minute", "signin")
    assert await Limiter(settings_for(f"{redis_prefix}other"), redis).hit("1/minute", "signin") is True


async def test_kits_in_one_process_count_apart():
    await Limiter(settings_for()).hit("1/minute", "signin")
    assert await Limiter(settings_for()).hit("1/minute", "signin") is True


async def test_disabled_limits_allow_everything():
    limiter = Limiter(settings_for(enabled=False))
    for _ in range(3):
        assert await limiter.hit("1/minute", "signin") is True
        assert await limiter.test("1/minute", "signin") is True


@pytest.mark.parametrize("rule", ["", "often", "20", "20/fortnight", "0/hour", "-1/hour", "5/hour; 20/day", "1.5/hour"])
def test_rule_that_is_none_is_refused(rule: str):
    with pytest.raises(AppKitError, match="is not a rate limit. Write an amount and a period: 20/hour"):
        parse_rule(rule)


@pytest.mark.parametrize(
    ("rule", "amount", "seconds"), [("20/hour", 20, 3600), ("5/10 minutes", 5, 600), ("1 per day", 1, 86400)]
)
def test_rule_says_how_many_in_how_long(rule: str, amount: int, seconds: int):
    item = parse_rule(rule)
    assert (item.amount, item.get_expiry()) == (amount, seconds)


async def test_memory_forgets_who_has_not_called_for_a_while(clock: Clock):
    limiter = Limiter(settings_for())
    for number in range(5000):
        await limiter.hit("1/minute", number)
        clock.now += 0.1
    assert len(limiter._storage._calls) < 2000  # type: ignore[union-attr] # It is the one in memory.
    await refused(limiter, "1/minute", 4999)


@asynccontextmanager
async def silent_server(connections: list[asyncio.StreamReader]) -> AsyncIterator[str]:
    """A server that takes connections and says nothing."""

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(reader)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.usefixtures("redis_clock")
async def test_everything_is_allowed_and_logged_once_while_redis_is_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """It costs one request a moment, and not each of them."""
    monkeypatch.setattr(core_redis, "TIMEOUT", 0.3)
    asked: list[asyncio.StreamReader] = []
    async with silent_server(asked) as url, Redis.from_url(url) as client:
        limiter = Limiter(settings_for(), client)
        answers = [await limiter.hit("1/minute", "signin") for _ in range(20)]
        assert len(asked) == 1
        await limiter.clear("1/minute", "signin")
    assert answers == [False] * 20
    assert [record.getMessage().partition(".")[2] for record in caplog.records] == [" Rate limits are not enforced."]


async def test_redis_is_asked_again_after_a_moment(
    redis_clock: Clock, caplog: pytest.LogCaptureFixture, redis: "Redis"
):
    best_effort, asked = BestEffort(redis, "Nothing works."), 0

    async def fail() -> bool:
        nonlocal asked
        asked += 1
        raise ConnectionError("gone")

    async def answer() -> bool:
        return True

    for _ in range(2):
        assert await best_effort.call(fail, otherwise=False) is False
        assert await best_effort.call(answer, otherwise=False) is False
        redis_clock.now += core_redis.TIMEOUT
    assert await best_effort.call(fail, otherwise=False) is False
    assert await best_effort.call(answer, otherwise=False, urgent=True) is True
    assert await best_effort.call(answer, otherwise=False) is True
    assert asked == 3
    assert caplog.messages == ["Redis does not answer (gone). Nothing works.", "Redis answers again."]


async def test_mistakes_are_no_silence(redis: "Redis"):
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await BestEffort(redis, "").call(fail, None)
