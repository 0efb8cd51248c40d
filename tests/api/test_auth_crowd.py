"""Sixty people sign in at once: nothing holds the loop, the memory is bounded, and in the end all are in."""

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher, profiles

from appkit.service.hashing import PasswordPool, Security
from appkit.testing.plugin import PASSWORD

CROWD, HASHES, WAITING = 60, 2, 32
MEMORY = 200 * 2**20
STEP = 0.1  # Seconds.
PROCESS = Path("/proc/self")


@pytest.fixture
def settings(settings):
    """One connection, so that who held it while hashing would be in everybody's way."""
    limits = settings.limits.model_copy(update={"enabled": False})
    database = settings.database.model_copy(update={"pool_size": 1, "pool_timeout": 60})
    return settings.model_copy(update={"limits": limits, "database": database})


@pytest.fixture
def everybody_is_here() -> threading.Event:
    return threading.Event()


@pytest.fixture
def hashing(monkeypatch, everybody_is_here) -> list[tuple[int, int]]:
    """For each password that is verified, in which thread, and how many are at that time; none before all have come."""
    verify, found, at_once = PasswordHasher.verify, [], threading.Semaphore(1000)

    def verify_and_note(self, *arguments):
        with at_once:
            if not everybody_is_here.wait(30):
                everybody_is_here.set()  # Not enough are turned away: the end says so.
            found.append((threading.get_ident(), 1000 - at_once._value))
            return verify(self, *arguments)

    monkeypatch.setattr(PasswordHasher, "verify", verify_and_note)
    return found


@pytest.fixture
def steps(monkeypatch) -> Iterator[list[float]]:
    """Seconds of the processor that each step of the loop takes, which are the same however busy the machine is."""
    run, found = asyncio.Handle._run, []

    def run_and_note(self):
        began = time.thread_time()
        run(self)
        found.append(time.thread_time() - began)

    monkeypatch.setattr(asyncio.Handle, "_run", run_and_note)
    gc.collect()
    gc.freeze()  # What other tests left is nobody's to look through.
    yield found
    gc.unfreeze()


@pytest.mark.slow
@pytest.mark.skipif(not PROCESS.exists(), reason="Only Linux says what a process takes at most.")
async def test_crowd_of_signins_is_bounded(kit, client, make_user, hashing, everybody_is_here, steps):
    pool = PasswordPool(concurrency=HASHES, parameters=profiles.RFC_9106_LOW_MEMORY, max_waiting=WAITING)
    Security.of(kit.context).passwords = pool
    account = {"email": (await make_user()).email, "password": PASSWORD}
    turned_away = 0

    async def sign_in() -> None:
        nonlocal turned_away
        while (answer := await client.post("/api/auth/signin", json=account)).status_code != 200:
            assert answer.status_code == 503
            turned_away += 1
            if turned_away == CROWD - HASHES - WAITING:
                everybody_is_here.set()
            await asyncio.sleep(float(answer.headers["retry-after"]))

    everybody_is_here.set()
    await sign_in()  # The first one imports and compiles, which is nobody's sign-in.
    everybody_is_here.clear()
    hashing.clear()
    PROCESS.joinpath("clear_refs").write_text("5")  # The peak is what it takes now.
    idle = memory("VmRSS")
    steps.clear()
    await asyncio.gather(*(sign_in() for _ in range(CROWD)))

    assert memory("VmHWM") - idle < MEMORY
    assert max(steps) < STEP
    assert len(hashing) == CROWD
    assert {thread for thread, _ in hashing}.isdisjoint({threading.get_ident()})
    assert max(at_once for _, at_once in hashing) == HASHES
    assert turned_away >= CROWD - WAITING - HASHES


def memory(what: str) -> int:
    """Bytes."""
    lines = PROCESS.joinpath("status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))
