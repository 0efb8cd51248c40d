"""Password hashing: Argon2id in a bounded thread pool. `Security` has the pool and the token keys of an app."""

import os
from base64 import b64encode
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from argon2 import Parameters, PasswordHasher, profiles
from argon2.exceptions import InvalidHashError, VerificationError

from appkit.core.settings import Settings
from appkit.exceptions import AppKitError, ServiceUnavailableException
from appkit.repository.context import AppContext

T = TypeVar("T")

_ARGON2ID = "$argon2id$"
_BCRYPT = ("$2a$", "$2b$", "$2x$", "$2y$")
_BCRYPT_BYTES = 72


class PasswordPool:
    """Hashes and verifies passwords with Argon2id (RFC 9106) in a bounded number of threads.

    One hash takes about 100 ms and 64 MiB. More threads than processors would use more memory and save no time. Clients
    would give up before the end of a longer queue. If `max_waiting` passwords wait, the methods raise
    `ServiceUnavailableException` with a `Retry-After` of one second.
    """

    def __init__(self, *, concurrency: int, parameters: Parameters, max_waiting: int = 32) -> None:
        self._argon2 = PasswordHasher.from_parameters(parameters)
        self._limiter = CapacityLimiter(concurrency)
        self._max_pending = concurrency + max_waiting
        self._pending = 0  # CapacityLimiter counts a waiter only after its task has yielded once.
        self._decoy = _decoy_hash(parameters)

    def check(self) -> None:
        """Raise early if the queue is full."""
        if self._pending >= self._max_pending:
            raise ServiceUnavailableException(retry_after=1)

    async def hash(self, password: str) -> str:
        """Hash a password. The result includes the salt and the parameters."""
        return await self._run(lambda: self._argon2.hash(password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether the password matches the hash.

        Without a hash, the result is False after the same time, so the time doesn't reveal whether an account exists.
        Migrated accounts may have bcrypt hashes, which need `fastapi-appkit[bcrypt]`.

        Raises:
            AppKitError: When the hash is from bcrypt, and the extra is not installed.
        """
        return await self._run(lambda: self._matches(hashed or self._decoy, password))

    def is_outdated(self, hashed: str) -> bool:
        """Whether the hash was made with another algorithm, or with other parameters than the current ones."""
        return not hashed.startswith(_ARGON2ID) or self._argon2.check_needs_rehash(hashed)

    def _matches(self, hashed: str, password: str) -> bool:
        try:
            if hashed.startswith(_BCRYPT):
                return _matches_bcrypt(hashed, password)
            return self._argon2.verify(hashed, password)
        except (VerificationError, InvalidHashError, ValueError):  # ValueError: from lone surrogates and from bcrypt.
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        self.check()
        self._pending += 1
        try:
            return await to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._pending -= 1


def _matches_bcrypt(hashed: str, password: str) -> bool:
    try:
        import bcrypt
    except ModuleNotFoundError:
        raise AppKitError("An account's password is hashed with bcrypt. Install fastapi-appkit[bcrypt].") from None
    # bcrypt hashes only 72 bytes. Old versions cut longer passwords, and new versions refuse them.
    return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], hashed.encode())


def _decoy_hash(parameters: Parameters) -> str:
    """A random hash that no password matches. Verifying this hash takes as long as verifying any other."""
    salt, digest = (
        b64encode(os.urandom(size)).rstrip(b"=").decode() for size in (parameters.salt_len, parameters.hash_len)
    )
    costs = f"m={parameters.memory_cost},t={parameters.time_cost},p={parameters.parallelism}"
    return f"$argon2id$v={parameters.version}${costs}${salt}${digest}"


class Security:
    """The token keys and the password pool of one app. All services of the app share them."""

    @classmethod
    def of(cls, context: AppContext) -> "Security":
        """The app's instance, created on first use."""
        if cls not in context.resources:
            context.resources[cls] = cls(context.settings)
        security: Security = context.resources[cls]
        return security

    def __init__(self, settings: Settings) -> None:
        from appkit.service.tokens import Tokens  # Imported here, because code that only uses tables needs no PyJWT.

        self.tokens = Tokens(settings)
        self.passwords = PasswordPool(
            concurrency=settings.auth.hash_concurrency or min(os.cpu_count() or 1, 4),
            parameters=profiles.CHEAPEST if settings.environment == "test" else profiles.RFC_9106_LOW_MEMORY,
        )
