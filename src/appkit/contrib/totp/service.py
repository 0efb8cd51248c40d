"""TotpService: set up authenticator apps, verify their codes and recovery codes. Also their tables and settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy import ColumnElement, ForeignKey, String, and_, delete, func, select, update
from sqlalchemy.orm import Mapped, mapped_column

from appkit import BaseService, BaseTableModel, BaseUser, EncryptedString, SettingsGroup
from appkit.contrib.totp import codes
from appkit.contrib.totp.events import (
    RecoveryCodesRenewed,
    RecoveryCodeUsed,
    SecondFactorFailed,
    TotpDisabled,
    TotpEnabled,
)
from appkit.exceptions import ConflictException, ForbiddenException, UnauthorizedException

RECOVERY_CODES: Final = 10
WRONG_IN_A_ROW: Final = "10/15 minutes"


class InvalidFactorException(UnauthorizedException):
    """The code that should finish signing in is wrong, expired or already used."""

    internal_code = 40160
    detail = "This code is wrong or already used. Wait for the next one."


class WrongCodeException(ForbiddenException):
    """A signed-in user gave a wrong code. Not a 401, because the session is valid."""

    internal_code = 40260
    detail = "This code is wrong. Use the one that the app shows now."


class TotpEnabledException(ConflictException):
    """The user already has an authenticator app, which must be removed before another one is set up."""

    internal_code = 40960
    detail = "An authenticator app is already set up. Remove it first."


class TotpSettings(SettingsGroup):
    """Codes from authenticator apps."""

    issuer: str | None = None
    """The name that authenticator apps show beside the code; unset, `APP_NAME`."""
    tolerance: int = Field(default=0, ge=0, le=10)
    """How many earlier codes, of 30 seconds each, are accepted besides the current one."""


class Totp(BaseTableModel):
    """The authenticator app of a user."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), unique=True)
    secret: Mapped[str] = mapped_column(EncryptedString)
    confirmed_at: Mapped[datetime | None]
    """When the app was confirmed with a code; before that, signing in needs no code."""
    last_step: Mapped[int] = mapped_column(default=0)
    """The time step of the last accepted code; codes of this or earlier steps are refused."""


class RecoveryCode(BaseTableModel):
    """A single-use code in place of one from the app. Using it deletes the row."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    code_hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 in hexadecimal; the code itself is shown once and not stored."""


@dataclass(frozen=True)
class Setup:
    """A new secret, and its URL for an authenticator app."""

    secret: str = field(repr=False)
    url: str = field(repr=False)


class TotpService(BaseService):
    """Authenticator apps and recovery codes of users."""

    async def is_enabled(self, user_id: UUID) -> bool:
        """Whether a user needs a code to sign in."""
        found = await self.db.scalar(select(Totp.id).where(Totp.user_id == user_id, Totp.confirmed_at.is_not(None)))
        return found is not None

    async def recovery_codes_left(self, user_id: UUID) -> int:
        """How many unused recovery codes a user has."""
        count = select(func.count()).select_from(RecoveryCode).where(RecoveryCode.user_id == user_id)
        return await self.db.scalar(count) or 0

    async def set_up(self, user: BaseUser) -> Setup:
        """Create a secret for a user's app. Signing in needs no code until they `confirm` it.

        Raises:
            TotpEnabledException: When the user already has an app.
        """
        if await self.is_enabled(user.id):
            raise TotpEnabledException
        await self.db.execute(delete(Totp).where(Totp.user_id == user.id))
        secret = codes.new_secret()
        await self.save(Totp(user_id=user.id, secret=secret))
        return Setup(
            secret,
            codes.otpauth_url(secret, account=user.email, issuer=self._own_settings.issuer or self.settings.app_name),
        )

    async def confirm(self, user_id: UUID, code: str) -> list[str]:
        """Confirm the app with a code from it; signing in needs a code from now on.

        Returns:
            The recovery codes, which can't be read again.

        Raises:
            WrongCodeException: When the code is wrong, or there is no app to confirm.
            TooManyRequestsException: After too many wrong codes.
        """
        async with self._attempt(user_id):
            if not await self._accept(user_id, code, Totp.confirmed_at.is_(None), confirmed_at=codes.now()):
                raise WrongCodeException
        self.emit(TotpEnabled(user_id=user_id))
        return await self._new_codes(user_id)

    async def disable(self, user_id: UUID, code: str) -> None:
        """Remove the app and the recovery codes of a user.

        Raises:
            WrongCodeException: When the code is wrong, or there is no app.
            TooManyRequestsException: After too many wrong codes.
        """
        await self._authorize(user_id, code)
        for table in (Totp, RecoveryCode):
            await self.db.execute(delete(table).where(table.user_id == user_id))
        self.emit(TotpDisabled(user_id=user_id))

    async def renew_codes(self, user_id: UUID, code: str) -> list[str]:
        """Replace the recovery codes of a user.

        Raises:
            WrongCodeException: When the code is wrong, or there is no app.
            TooManyRequestsException: After too many wrong codes.
        """
        await self._authorize(user_id, code)
        self.emit(RecoveryCodesRenewed(user_id=user_id))
        return await self._new_codes(user_id)

    async def prove(self, user_id: UUID, code: str) -> None:
        """Verify and consume a code that finishes signing in. The challenge limits the attempts.

        Commits when the code is wrong, so that the event is not rolled back.

        Raises:
            InvalidFactorException: When the code is wrong, expired or already used.
        """
        if not await self._check(user_id, code):
            self.emit(SecondFactorFailed(user_id=user_id))
            await self.db.commit()
            raise InvalidFactorException

    @property
    def _own_settings(self) -> TotpSettings:
        return self.settings.group(TotpSettings)

    async def _authorize(self, user_id: UUID, code: str) -> None:
        async with self._attempt(user_id):
            if not await self._check(user_id, code):
                raise WrongCodeException

    @asynccontextmanager
    async def _attempt(self, user_id: UUID) -> AsyncIterator[None]:
        """Count an attempt before its code is checked, so that guesses in somebody else's open browser are limited."""
        await self.limiter.hit(WRONG_IN_A_ROW, "totp", user_id)
        yield
        await self.limiter.clear(WRONG_IN_A_ROW, "totp", user_id)

    async def _check(self, user_id: UUID, code: str) -> bool:
        """Verify and consume a code from the app or a recovery code."""
        typed = code.replace(" ", "")
        if len(typed) == codes.DIGITS and typed.isdigit():
            return await self._accept(user_id, typed, Totp.confirmed_at.is_not(None))
        mine = and_(RecoveryCode.user_id == user_id, RecoveryCode.code_hash == codes.recovery_hash(typed))
        used = await self.db.scalar(delete(RecoveryCode).where(mine).returning(RecoveryCode.id))
        if used is not None:
            self.emit(RecoveryCodeUsed(user_id=user_id, left=await self.recovery_codes_left(user_id)))
        return used is not None

    async def _accept(self, user_id: UUID, code: str, state: ColumnElement[bool], **values: Any) -> bool:
        """Accept a code once; it and earlier codes are then void. Of concurrent uses, one succeeds (RFC 6238, 5.2)."""
        mine = and_(Totp.user_id == user_id, state)
        secret = await self.db.scalar(select(Totp.secret).where(mine))
        step = (
            codes.accepted_step(secret, code, codes.now(), tolerance=self._own_settings.tolerance) if secret else None
        )
        if step is None:
            return False
        accepted = await self.db.scalar(
            update(Totp).where(mine, Totp.last_step < step).values(last_step=step, **values).returning(Totp.id),
            execution_options={"synchronize_session": False},
        )
        return accepted is not None

    async def _new_codes(self, user_id: UUID) -> list[str]:
        await self.db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
        new = [codes.new_recovery_code() for _ in range(RECOVERY_CODES)]
        self.db.add_all(RecoveryCode(user_id=user_id, code_hash=codes.recovery_hash(code)) for code in new)
        await self.db.flush()
        return new
