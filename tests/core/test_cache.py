"""The cache, in memory and in Redis: values are loaded once, and never older than an invalidation."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from redis.asyncio import Redis
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from appkit.core import cache as core_cache, redis as core_redis
from appkit.core.cache import Cache
from appkit.exceptions import AppKitError

MakeCache = Callable[[], Cache]


class Post(BaseModel):
    id: int
    title: str
    at: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    price: Decimal = Decimal("1.10")


@dataclass
class Point:
    x: int


@pytest.fixture
async def redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator["Redis"]:
    monkeypatch.setattr(core_redis, "TIMEOUT", 30.0)  # Answers take longer on a busy machine.
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def redis_cache(redis: "Redis", redis_prefix: str) -> MakeCache:
    """Creates caches as several instances of an app have them."""
    return lambda: Cache(redis, prefix=redis_prefix)


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest) -> Cache:
    return Cache() if request.param == "memory" else request.getfixturevalue("redis_cache")()


class Loader:
    """Loads a value, counts the calls, and can wait."""

    def __init__(self, value: object = 1) -> None:
        self.value = value
        self.calls = 0
        self.started = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> object:
        self.calls += 1
        value = self.value
        self.started.set()
        await self.may_end.wait()
        if isinstance(value, Exception):
            raise value
        return value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Post(id=1, title="Grüße\n"), Post),
        ([Post(id=1, title="a"), Post(id=2, title="b")], list[Post]),
        (Point(3), Point),
        ({"a": [1, None]}, dict[str, list[int | None]]),
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), datetime),
        (UUID(int=7), UUID),
        ({1, 2}, set[int]),
        ("", str),
        (None, TypeAdapter(Post | None)),
    ],
    ids=str,
)
async def test_get_returns_the_value_as_its_type(cache: Cache, value: object, kind: Any):
    await cache.set("key", value, ttl=60)
    assert await cache.get("key", kind) == value
    assert await cache.get_or_set("key", Loader(), kind, ttl=60) == value


async def test_get_returns_none_if_there_is_no_value(cache: Cache):
    assert await cache.get("key", int) is None


async def test_get_or_set_returns_the_same_type_before_and_after_storing(cache: Cache):
    """A loader may return a simpler object than the type. Each caller gets a separate object."""
    loader = Loader([{"id": 1, "title": "a"}])
    first = await cache.get_or_set("key", loader, list[Post], ttl=60)
    assert first == [Post(id=1, title="a")]
    first.clear()
    assert await cache.get_or_set("key", loader, list[Post], ttl=60) == [Post(id=1, title="a")]
    assert loader.calls == 1


async def test_value_expires_after_its_ttl(cache: Cache):
    await cache.set("short", 1, ttl=0.05)
    await cache.set("long", 1, ttl=60)
    await asyncio.sleep(0.06)
    assert await cache.get("short", int) is None
    assert await cache.get("long", int) == 1


async def test_all_keys_in_redis_expire(redis: "Redis", redis_cache: MakeCache, redis_prefix: str):
    await redis_cache().get_or_set("key", Loader(), int, ttl=60, tags=["a"])
    ages = [await redis.ttl(name) async for name in redis.scan_iter(f"{redis_prefix}*")]
    assert len(ages) == 3
    assert all(0 < age <= 60 + core_cache.LEASE for age in ages)


async def test_memory_evicts_the_least_recently_used():
    cache = Cache(max_entries=6)  # Three values, each with the token of its key.
    for number in range(3):
        await cache.set(str(number), number, ttl=60)
    assert await cache.get("0", int) == 0
    await cache.set("3", 3, ttl=60)
    assert [await cache.get(str(number), int) for number in range(4)] == [0, None, 2, 3]
    assert len(cache._store._entries) <= 6  # type: ignore[union-attr] # The store in memory.


async def test_delete_removes_only_the_given_keys(cache: Cache):
    for key in "abc":
        await cache.set(key, 1, ttl=60)
    await cache.delete("a", "b")
    assert [await cache.get(key, int) for key in "abc"] == [None, None, 1]


async def test_invalidate_removes_values_with_one_of_the_tags(cache: Cache):
    await cache.set("both", 1, ttl=60, tags=["posts", "ada"])
    await cache.set("one", 1, ttl=60, tags=["posts"])
    await cache.set("other", 1, ttl=60, tags=["comments"])
    await cache.set("ada", 1, ttl=60)
    await cache.invalidate("ada")
    assert [await cache.get(key, int) for key in ("both", "one", "other", "ada")] == [None, 1, 1, 1]
    await cache.invalidate("comments", "posts")
    assert [await cache.get(key, int) for key in ("one", "other", "ada")] == [None, None, 1]


async def test_tag_expires_after_all_values_with_this_tag(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(core_cache, "LEASE", 0)
    await cache.set("short", 1, ttl=0.05, tags=["posts"])
    await cache.set("long", 1, ttl=60, tags=["posts"])
    await cache.set("short", 1, ttl=0.05, tags=["posts"])
    await asyncio.sleep(0.06)
    assert await cache.get("long", int) == 1


async def test_value_with_an_evicted_tag_is_removed():
    """Otherwise nothing could invalidate the value."""
    cache = Cache(max_entries=5)
    await cache.set("key", 1, ttl=60, tags=["posts"])
    for number in range(3):
        cache._store._get("value:key")  # type: ignore[union-attr] # The value is used, and its tags aren't.
        await cache._store.write(str(number), b"", 60)
    assert await cache.get("key", int) is None


async def test_value_is_loaded_once_for_concurrent_callers(cache: Cache):
    loader = Loader(Post(id=1, title="a"))
    loader.may_end.clear()
    asking = [asyncio.create_task(cache.get_or_set("key", loader, Post, ttl=60)) for _ in range(20)]
    await loader.started.wait()
    loader.may_end.set()
    posts = await asyncio.gather(*asking)
    assert loader.calls == 1
    assert posts == [Post(id=1, title="a")] * 20
    assert len({id(post) for post in posts}) == 20


async def test_different_keys_are_loaded_concurrently(cache: Cache):
    slow, quick = Loader(), Loader(2)
    slow.may_end.clear()
    asking = asyncio.create_task(cache.get_or_set("slow", slow, int, ttl=60))
    await slow.started.wait()
    assert await cache.get_or_set("quick", quick, int, ttl=60) == 2
    slow.may_end.set()
    assert await asking == 1


async def test_value_is_loaded_once_for_concurrent_processes(redis_cache: MakeCache):
    loader = Loader()
    loader.may_end.clear()
    asking = [asyncio.create_task(redis_cache().get_or_set("key", loader, int, ttl=60)) for _ in range(5)]
    await loader.started.wait()
    await asyncio.sleep(0.1)
    loader.may_end.set()
    assert await asyncio.gather(*asking) == [1] * 5
    assert loader.calls == 1


async def test_value_is_loaded_by_another_process_after_a_crash(
    redis_cache: MakeCache, redis: "Redis", redis_prefix: str, monkeypatch: pytest.MonkeyPatch
):
    """The other process waits until the lease ends."""
    monkeypatch.setattr(core_cache, "LEASE", 600)
    loader, lock = Loader(), f"{redis_prefix}:cache:lock:key"
    loader.may_end.clear()
    dead = asyncio.create_task(redis_cache().get_or_set("key", loader, int, ttl=60))
    await loader.started.wait()
    assert 0 < await redis.ttl(lock) <= 600
    other = asyncio.create_task(redis_cache().get_or_set("key", Loader(), int, ttl=60))
    await asyncio.sleep(0.1)
    assert not other.done()
    await redis.pexpire(lock, 1)
    assert await asyncio.wait_for(other, 60) == 1
    dead.cancel()
    await asyncio.wait([dead])


async def test_value_stored_before_the_lock_is_not_loaded_again(cache: Cache):
    """Another process stores the value before this one gets the lock."""
    lock = cache._store.lock

    async def late_lock(key: str) -> Any:
        await cache.set("key", 2, ttl=60)
        return await lock(key)

    cache._store.lock = late_lock  # type: ignore[method-assign]
    loader = Loader()
    assert await cache.get_or_set("key", loader, int, ttl=60) == 2
    assert loader.calls == 0


async def test_loader_slower_than_its_lease_stores_its_value_and_keeps_other_locks(
    redis_cache: MakeCache,
    redis: "Redis",
    redis_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(core_cache, "LEASE", 0.05)
    slow = Loader()
    slow.may_end.clear()
    asking = asyncio.create_task(redis_cache().get_or_set("key", slow, int, ttl=60))
    await slow.started.wait()
    await asyncio.sleep(0.1)
    await redis.set(f"{redis_prefix}:cache:lock:key", "of another", px=10_000)
    slow.may_end.set()
    assert await asking == 1
    assert await redis.get(f"{redis_prefix}:cache:lock:key") == b"of another"
    assert caplog.messages == []


async def test_invalidation_calls_redis_right_after_a_failure(redis_cache: MakeCache):
    cache = redis_cache()
    await cache.set("key", 1, ttl=60)
    cache._store._call.__self__._resumes_at = time.monotonic() + 60  # type: ignore[union-attr] # The store in Redis.
    assert await cache.get("key", int) is None
    await cache.delete("key")
    assert await redis_cache().get("key", int) is None


async def test_exception_of_the_loader_is_raised_for_all_callers_and_not_stored(cache: Cache):
    loader = Loader(ZeroDivisionError("once"))
    loader.may_end.clear()
    asking = [asyncio.create_task(cache.get_or_set("key", loader, int, ttl=60)) for _ in range(5)]
    await loader.started.wait()
    await asyncio.sleep(0.1)
    loader.may_end.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ZeroDivisionError] * 5
    assert loader.calls == 1
    assert await cache.get_or_set("key", Loader(), int, ttl=60) == 1


async def test_exception_of_the_loader_is_not_logged_by_the_event_loop(cache: Cache, caplog: pytest.LogCaptureFixture):
    """The caller handles the error, and the event loop doesn't report it too."""
    with pytest.raises(ZeroDivisionError):
        await cache.get_or_set("key", Loader(ZeroDivisionError("once")), int, ttl=60)
    gc.collect()
    await asyncio.sleep(0)
    assert caplog.messages == []


async def test_value_is_loaded_by_another_caller_after_a_cancellation(cache: Cache):
    loader = Loader()
    loader.may_end.clear()
    first = asyncio.create_task(cache.get_or_set("key", loader, int, ttl=60))
    await loader.started.wait()
    others = [asyncio.create_task(cache.get_or_set("key", loader, int, ttl=60)) for _ in range(4)]
    await asyncio.sleep(0.05)
    first.cancel()
    loader.may_end.set()
    assert await asyncio.gather(*others) == [1] * 4
    assert loader.calls == 2
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_cancelled_caller_does_not_cancel_the_loader(cache: Cache):
    loader = Loader()
    loader.may_end.clear()
    first = asyncio.create_task(cache.get_or_set("key", loader, int, ttl=60))
    await loader.started.wait()
    second = asyncio.create_task(cache.get_or_set("key", loader, int, ttl=60))
    await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.wait([second])
    loader.may_end.set()
    assert await first == 1


def delete(cache: Cache) -> Awaitable[None]:
    return cache.delete("key")


def invalidate(cache: Cache) -> Awaitable[None]:
    return cache.invalidate("posts")


@pytest.mark.parametrize("forget", [delete, invalidate])
async def test_value_loaded_before_an_invalidation_is_not_stored(
    cache: Cache, forget: Callable[[Cache], Awaitable[None]]
):
    loader = Loader("old")
    loader.may_end.clear()
    early = asyncio.create_task(cache.get_or_set("key", loader, str, ttl=60, tags=["posts"]))
    await loader.started.wait()
    loader.value = "new"
    await forget(cache)
    late = asyncio.create_task(cache.get_or_set("key", loader, str, ttl=60, tags=["posts"]))
    await asyncio.sleep(0.05)
    loader.may_end.set()
    assert await early == "old"
    assert await late == "new"
    assert await cache.get("key", str) == "new"


async def test_invalidation_removes_a_value_that_another_process_loads(redis_cache: MakeCache):
    one, other = redis_cache(), redis_cache()
    loader = Loader("old")
    loader.may_end.clear()
    early = asyncio.create_task(one.get_or_set("key", loader, str, ttl=60, tags=["posts"]))
    await loader.started.wait()
    loader.value = "new"
    await other.invalidate("posts")
    late = [asyncio.create_task(cache.get_or_set("key", loader, str, ttl=60, tags=["posts"])) for cache in (one, other)]
    await asyncio.sleep(0.05)
    loader.may_end.set()
    assert await asyncio.gather(early, *late) == ["old", "new", "new"]


async def test_value_that_does_not_fit_its_type_is_loaded_again(cache: Cache):
    """A deployment may change the type."""
    await cache.set("key", {"headline": "a"}, ttl=60)
    assert await cache.get("key", Post) is None
    post = Post(id=1, title="a")
    assert await cache.get_or_set("key", Loader(post), Post, ttl=60) == post
    assert await cache.get("key", Post) == post


async def test_loaded_value_that_does_not_fit_its_type_is_an_error(cache: Cache):
    with pytest.raises(ValidationError):
        await cache.get_or_set("key", Loader("text"), int, ttl=60)


async def test_rows_are_refused(cache: Cache):
    class Base(DeclarativeBase): ...

    class Row(Base):
        __tablename__ = "row"
        id: Mapped[int] = mapped_column(primary_key=True)

    row = Row(id=1)
    with pytest.raises(AppKitError, match="Use a schema instead"):
        await cache.set("key", row, ttl=60)
    with pytest.raises(AppKitError, match="Use a schema instead"):
        await cache.get_or_set("key", Loader([row]), list[Any], ttl=60)


async def test_apps_with_one_redis_share_no_values(redis: "Redis", redis_prefix: str):
    await Cache(redis, prefix=f"{redis_prefix}a").set("key", 1, ttl=60)
    assert await Cache(redis, prefix=f"{redis_prefix}b").get("key", int) is None


async def test_value_is_loaded_once_in_a_process_while_redis_is_down(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(core_redis, "TIMEOUT", 0.2)
    async with Redis(port=1) as client:
        cache, loader = Cache(client), Loader()
        loader.may_end.clear()
        asking = [asyncio.create_task(cache.get_or_set("key", loader, int, ttl=60)) for _ in range(5)]
        await loader.started.wait()
        await asyncio.sleep(0.05)
        loader.may_end.set()
        assert await asyncio.gather(*asking) == [1] * 5
        assert loader.calls == 1
        assert await cache.get_or_set("key", loader, int, ttl=60) == 1
        assert loader.calls == 2
        await cache.set("key", 1, ttl=60)
        await cache.delete("key")
        assert await cache.get("key", int) is None
    (message,) = caplog.messages
    assert message.startswith("Redis does not answer")
    assert message.endswith("Each process loads values anew, and invalidations are lost.")
