"""Security: Argon2 in a bounded pool, and what an app keeps for it."""

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
    """Hashes passwords with Argon2id (RFC 9106) in threads, as many at once as there are processors.

    One takes about 100 ms and 64 MiB. More threads than processors would take more memory and no less time,
    and a longer queue than `max_waiting` would take longer than people wait.

    Args:
        concurrency: Passwords hashed at once.
        parameters: Argon2's costs.
        max_waiting: Passwords that may wait for their turn.
    """

    def __init__(self, *, concurrency: int, parameters: Parameters, max_waiting: int = 32) -> None:
        self._argon2 = PasswordHasher.from_parameters(parameters)
        self._limiter = CapacityLimiter(concurrency)
        self._max_pending = concurrency + max_waiting
        self._pending = 0  # Counted here: a limiter knows who waits only after they have given up the loop once.
        self._decoy = _unmatched(parameters)

    def check(self) -> None:
        """Turn a caller away while the queue is full.

        Raises:
            ServiceUnavailableException: To be tried again in a second.
        """
        if self._pending >= self._max_pending:
            raise ServiceUnavailableException(retry_after=1)

    async def hash(self, password: str) -> str:
        """The password's hash, with its salt and its parameters.

        Raises:
            ServiceUnavailableException: When too many are waiting already.
        """
        return await self._run(lambda: self._argon2.hash(password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether the password is the one that was hashed.

        Without a hash the answer is no, and takes as long: the time must not tell whether an account exists.
        Hashes of bcrypt, which accounts may have from before, need `fastapi-appkit[bcrypt]`.

        Raises:
            ServiceUnavailableException: When too many are waiting already.
            AppKitError: When the hash is bcrypt's and the extra is not installed.
        """
        return await self._run(lambda: self._matches(hashed or self._decoy, password))

    def is_outdated(self, hashed: str) -> bool:
        """Whether the hash was made with other parameters than today's, or by something else."""
        return not hashed.startswith(_ARGON2ID) or self._argon2.check_needs_rehash(hashed)

    def _matches(self, hashed: str, password: str) -> bool:
        try:
            if hashed.startswith(_BCRYPT):
                return _matches_bcrypt(hashed, password)
            return self._argon2.verify(hashed, password)
        except (VerificationError, InvalidHashError, ValueError):  # ValueError: a lone surrogate's, and bcrypt's.
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
    # The hash knows no more of it: where bcrypt cut silently once, it refuses now.
    return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], hashed.encode())


def _unmatched(parameters: Parameters) -> str:
    """A hash that no password has, and that costs as much to find out as any."""
    salt, digest = (
        b64encode(os.urandom(size)).rstrip(b"=").decode() for size in (parameters.salt_len, parameters.hash_len)
    )
    costs = f"m={parameters.memory_cost},t={parameters.time_cost},p={parameters.parallelism}"
    return f"$argon2id$v={parameters.version}${costs}${salt}${digest}"


class Security:
    """What the services of one app share: its tokens' keys, and the pool that bounds its hashing."""

    @classmethod
    def of(cls, context: AppContext) -> "Security":
        """The app's own, made when it is first needed."""
        if cls not in context.resources:
            context.resources[cls] = cls(context.settings)
        security: Security = context.resources[cls]
        return security

    def __init__(self, settings: Settings) -> None:
        from appkit.service.tokens import Tokens  # With libraries that who only reads tables needn't import.

        self.tokens = Tokens(settings)
        self.passwords = PasswordPool(
            concurrency=settings.auth.hash_concurrency or min(os.cpu_count() or 1, 4),
            parameters=profiles.CHEAPEST if settings.environment == "test" else profiles.RFC_9106_LOW_MEMORY,
        )
