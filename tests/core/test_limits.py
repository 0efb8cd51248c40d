"""Rate limits, in memory and in Redis. While Redis is down, every call is allowed."""

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
    """The time of the limiter's clock."""

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
    """The time of the clock that decides when Redis is called again."""
    clock = Clock()
    monkeypatch.setattr(core_redis, "monotonic", clock)
    return clock


@pytest.fixture
async def redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator["Redis"]:
    monkeypatch.setattr(core_redis, "TIMEOUT", 30.0)  # Answers take longer on a busy machine.
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(params=["memory", "redis"])
def limiter(request: pytest.FixtureRequest) -> Limiter:
    if request.param == "memory":
        return Limiter(settings_for())
    return Limiter(settings_for(request.getfixturevalue("redis_prefix")), request.getfixturevalue("redis"))


async def refused(limiter: Limiter, rule: str, *keys: Any) -> int:
    """The seconds in the `Retry-After` of a refused call."""
    with pytest.raises(TooManyRequestsException) as caught:
        await limiter.hit(rule, *keys)
    return int(caught.value.headers["Retry-After"])


async def test_hit_refuses_calls_above_the_limit_with_retry_after(limiter: Limiter, clock: Clock):
    """After `Retry-After` seconds the call is allowed, and one second earlier it is refused."""
    for _ in range(3):
        assert await limiter.hit("3/minute", "search", "ada") is True
        clock.now += 10.25
    assert await refused(limiter, "3/minute", "search", "ada") == 30
    clock.now += 29
    assert await refused(limiter, "3/minute", "search", "ada") == 1
    clock.now += 1
    assert await limiter.hit("3/minute", "search", "ada") is True
    assert await refused(limiter, "3/minute", "search", "ada") == 10


async def test_retry_after_is_exact(limiter: Limiter, clock: Clock):
    """A call that is exactly as old as the window counts."""
    await limiter.hit("1/minute", "search")
    assert await refused(limiter, "1/minute", "search") == 61
    clock.now += 60
    assert await refused(limiter, "1/minute", "search") == 1
    clock.now += 1
    assert await limiter.hit("1/minute", "search") is True


async def test_window_moves(limiter: Limiter, clock: Clock):
    """With fixed minutes, twice the limit would be allowed around the start of a minute."""
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


async def test_concurrent_calls_are_counted(limiter: Limiter):
    answers = await asyncio.gather(*(limiter.hit("5/minute", "search") for _ in range(30)), return_exceptions=True)
    assert [answer for answer in answers if answer is True] == [True] * 5


async def test_test_refuses_like_hit_and_counts_nothing(limiter: Limiter):
    for _ in range(3):
        assert await limiter.test("1/minute", "signin") is True
    await limiter.hit("1/minute", "signin")
    with pytest.raises(TooManyRequestsException) as caught:
        await limiter.test("1/minute", "signin")
    assert 55 <= int(caught.value.headers["Retry-After"]) <= 60


async def test_clear_resets_one_counter(limiter: Limiter):
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
async def test_different_keys_have_different_counters(one: tuple[str, ...], other: tuple[str, ...]):
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
async def test_spellings_of_one_ip_address_have_one_counter(one: Any, other: Any):
    limiter = Limiter(settings_for())
    await limiter.hit("1/minute", one)
    await refused(limiter, "1/minute", other)


@pytest.mark.parametrize("key", [None, object(), b"ada", 1.5, ["ada"]])
async def test_key_of_another_type_is_refused(key: Any):
    """The repr of an object contains its memory address, so each call would have another counter."""
    with pytest.raises(AppKitError, match="A rate limit's key is"):
        await Limiter(settings_for()).hit("1/minute", key)


@pytest.mark.parametrize("key", ["\ud800", "\x00", "ß@example.com", "x" * 1_000_000])
async def test_any_string_is_a_key(limiter: Limiter, key: str):
    await limiter.hit("1/minute", key)
    await refused(limiter, "1/minute", key)


async def test_redis_contains_no_address(redis: "Redis", redis_prefix: str):
    limiter = Limiter(settings_for(redis_prefix), redis)
    await limiter.hit("5/minute", "signin", "ada@example.com", "198.51.100.7")
    (key,) = [key async for key in redis.scan_iter(f"{redis_prefix}*")]
    name = key.removeprefix(redis_prefix.encode())  # The prefix is random.
    assert not any(known in name for known in (b"ada", b"example", b"198"))
    assert 0 < await redis.ttl(key) <= 60


async def test_keys_in_redis_depend_on_the_secret(redis: "Redis", redis_prefix: str):
    """An attacker could find the IP address of a plain hash by trying all IP addresses."""
    for secret in (SECRET, SECRET[::-1]):
        await Limiter(settings_for(redis_prefix, secret=secret), redis).hit("5/minute", "signin", "ada@example.com")
    assert len([key async for key in redis.scan_iter(f"{redis_prefix}*")]) == 2


async def test_instances_count_together_in_redis(redis: "Redis", redis_prefix: str):
    settings = settings_for(redis_prefix)
    await Limiter(settings, redis).hit("1/minute", "signin")
    await refused(Limiter(settings, redis), "1/minute", "signin")
    assert await Limiter(settings_for(f"{redis_prefix}other"), redis).hit("1/minute", "signin") is True


async def test_kits_in_one_process_share_no_counters():
    await Limiter(settings_for()).hit("1/minute", "signin")
    assert await Limiter(settings_for()).hit("1/minute", "signin") is True


async def test_disabled_limits_allow_everything():
    limiter = Limiter(settings_for(enabled=False))
    for _ in range(3):
        assert await limiter.hit("1/minute", "signin") is True
        assert await limiter.test("1/minute", "signin") is True


@pytest.mark.parametrize("rule", ["", "often", "20", "20/fortnight", "0/hour", "-1/hour", "5/hour; 20/day", "1.5/hour"])
def test_invalid_rule_is_refused(rule: str):
    with pytest.raises(AppKitError, match="is not a rate limit. Write an amount and a period: 20/hour"):
        parse_rule(rule)


@pytest.mark.parametrize(
    ("rule", "amount", "seconds"), [("20/hour", 20, 3600), ("5/10 minutes", 5, 600), ("1 per day", 1, 86400)]
)
def test_rule_is_parsed_into_amount_and_period(rule: str, amount: int, seconds: int):
    item = parse_rule(rule)
    assert (item.amount, item.get_expiry()) == (amount, seconds)


async def test_memory_deletes_old_counters(clock: Clock):
    limiter = Limiter(settings_for())
    for number in range(5000):
        await limiter.hit("1/minute", number)
        clock.now += 0.1
    assert len(limiter._storage._calls) < 2000  # type: ignore[union-attr] # The storage in memory.
    await refused(limiter, "1/minute", 4999)


@asynccontextmanager
async def silent_server(connections: list[asyncio.StreamReader]) -> AsyncIterator[str]:
    """A server that accepts connections and doesn't answer."""

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(reader)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.usefixtures("redis_clock")
async def test_every_call_is_allowed_and_one_warning_logged_while_redis_is_down(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Only one request waits for the timeout."""
    monkeypatch.setattr(core_redis, "TIMEOUT", 0.3)
    asked: list[asyncio.StreamReader] = []
    async with silent_server(asked) as url, Redis.from_url(url) as client:
        limiter = Limiter(settings_for(), client)
        answers = [await limiter.hit("1/minute", "signin") for _ in range(20)]
        assert len(asked) == 1
        await limiter.clear("1/minute", "signin")
    assert answers == [False] * 20
    assert [record.getMessage().partition(".")[2] for record in caplog.records] == [" Rate limits are not enforced."]


async def test_redis_is_called_again_after_a_pause(
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


async def test_other_exceptions_are_raised(redis: "Redis"):
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await BestEffort(redis, "").call(fail, None)
