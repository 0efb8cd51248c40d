"""Password hashing: bounded concurrency, no blocking of the event loop, and equal times."""

import asyncio
import sys
import threading

import pytest
from argon2 import PasswordHasher, profiles
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from appkit.exceptions import AppKitError, ServiceUnavailableException
from appkit.kit import AppKit
from appkit.service.hashing import PasswordPool, Security


@pytest.fixture
def pool() -> PasswordPool:
    return PasswordPool(concurrency=2, parameters=profiles.CHEAPEST)


async def test_verify_accepts_the_right_password_only(pool):
    hashed = await pool.hash("correct horse")
    assert await pool.verify(hashed, "correct horse")
    assert not await pool.verify(hashed, "correct  horse")
    assert hashed != await pool.hash("correct horse")


@pytest.mark.parametrize("hashed", [None, "", "not a hash", "$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA"])
@pytest.mark.parametrize("password", ["", "correct horse", "\ud800", "\0"])
async def test_verify_is_false_without_a_hash(pool, hashed, password):
    assert not await pool.verify(hashed, password)


async def test_verify_takes_as_long_without_a_hash(pool, monkeypatch):
    """The test counts hashes instead of measuring time. The decoy has the current parameters."""
    verified: list[str] = []
    verify = PasswordHasher.verify

    def verify_and_remember(self, hashed, password):
        verified.append(hashed)
        return verify(self, hashed, password)

    monkeypatch.setattr(PasswordHasher, "verify", verify_and_remember)
    hashed = await pool.hash("correct horse")
    await pool.verify(hashed, "wrong")
    await pool.verify(None, "wrong")
    assert len(verified) == 2
    assert verified[0].split("$")[:4] == verified[1].split("$")[:4]


async def test_is_outdated_compares_with_current_parameters(pool):
    hashed = await pool.hash("correct horse")
    dearer = PasswordPool(concurrency=1, parameters=profiles.RFC_9106_LOW_MEMORY)
    assert not pool.is_outdated(hashed)
    assert dearer.is_outdated(hashed)


@pytest.mark.parametrize("made_by", [Argon2Hasher(memory_cost=64), BcryptHasher(rounds=4), BcryptHasher(4, "2a")])
@pytest.mark.parametrize("password", ["correct horse", "pässwörd ", "x" * 72])
async def test_verify_accepts_hashes_of_pwdlib(pool, made_by, password):
    """fastapi-users hashes passwords with pwdlib. Migrated accounts keep their passwords."""
    hashed = made_by.hash(password)
    assert await pool.verify(hashed, password)
    assert not await pool.verify(hashed, password[1:])
    assert pool.is_outdated(hashed)


async def test_verify_uses_the_first_72_bytes_with_bcrypt(pool):
    """bcrypt hashes only 72 bytes of a password, and its newer releases refuse longer passwords."""
    hashed = BcryptHasher(rounds=4).hash("x" * 72)
    assert await pool.verify(hashed, "x" * 100)


@pytest.mark.parametrize("hashed", ["$2b$", "$2b$12$short", "$2b$99$" + "x" * 53])
async def test_verify_is_false_for_a_malformed_bcrypt_hash(pool, hashed):
    assert not await pool.verify(hashed, "correct horse")


async def test_verify_of_bcrypt_names_the_missing_extra(pool, monkeypatch):
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(AppKitError, match=r"Install fastapi-appkit\[bcrypt\]"):
        await pool.verify(BcryptHasher(rounds=4).hash("correct horse"), "correct horse")


async def test_pool_bounds_its_concurrency_and_its_queue(monkeypatch):
    pool = PasswordPool(concurrency=2, parameters=profiles.CHEAPEST, max_waiting=3)
    running, most, gate = 0, 0, threading.Event()
    lock = threading.Lock()

    def hash_slowly(_, password):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(60)
        with lock:
            running -= 1
        return password

    monkeypatch.setattr(PasswordHasher, "hash", hash_slowly)
    tasks = [asyncio.create_task(pool.hash(str(n))) for n in range(10)]
    async with asyncio.timeout(60):
        while running < 2 or sum(task.done() for task in tasks) < 5:  # noqa: ASYNC110 - threads have no event to wait for
            await asyncio.sleep(0.01)
    refused = [task.exception() for task in tasks if task.done()]
    assert len(refused) == 5
    for exc in refused:
        assert isinstance(exc, ServiceUnavailableException)
        assert exc.headers == {"Retry-After": "1"}
    with pytest.raises(ServiceUnavailableException):
        pool.check()
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 2
    pool.check()


async def test_pool_never_hashes_on_the_event_loop(monkeypatch):
    threads = set()

    def note(self, password):
        threads.add(threading.get_ident())
        return password

    monkeypatch.setattr(PasswordHasher, "hash", note)
    pool = PasswordPool(concurrency=2, parameters=profiles.RFC_9106_LOW_MEMORY)
    await asyncio.gather(*(pool.hash("correct horse") for _ in range(8)))
    assert threads
    assert threading.get_ident() not in threads


def test_security_belongs_to_one_app(kit):
    other = AppKit(kit.settings, discover=False)
    assert Security.of(kit.context) is Security.of(kit.context)
    assert Security.of(kit.context) is not Security.of(other.context)
