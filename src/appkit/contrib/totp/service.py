"""TotpService: setting an authenticator app up, checking its codes, and what to do when it is lost."""

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
    """Someone whose password was right gave a code that is wrong, past or used."""

    internal_code = 40160
    detail = "This code is wrong or was used. Wait for the next one."


class WrongCodeException(ForbiddenException):
    """Someone signed in gave a wrong code for the app they are setting up; not a 401, for the session is good."""

    internal_code = 40260
    detail = "This code is wrong. Use the one that the app shows now."


class TotpEnabledException(ConflictException):
    """The person has an authenticator app already: it must be removed before another one is set up."""

    internal_code = 40960
    detail = "An authenticator app is set up already. Remove it first."


class TotpSettings(SettingsGroup):
    """Codes from authenticator apps."""

    issuer: str | None = None
    """What apps show beside the code; unset, `APP_NAME`."""
    tolerance: int = Field(default=0, ge=0, le=10)
    """How many codes before the one that is shown are good too, 30 seconds each."""


class Totp(BaseTableModel):
    """Somebody's authenticator app."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), unique=True)
    secret: Mapped[str] = mapped_column(EncryptedString)
    confirmed_at: Mapped[datetime | None]
    """When they showed that the app works; until then it is never asked for."""
    last_step: Mapped[int] = mapped_column(default=0)
    """The 30 seconds of the latest code that was accepted: no code of then or before is good again."""


class RecoveryCode(BaseTableModel):
    """A code that is good once, in place of one from the app. Its row goes when it is used."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    code_hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 in hexadecimal; the code itself is shown once and never kept."""


@dataclass(frozen=True)
class Setup:
    """What an authenticator app is given, once."""

    secret: str = field(repr=False)
    url: str = field(repr=False)


class TotpService(BaseService):
    """Somebody's authenticator app and recovery codes."""

    async def is_enabled(self, user_id: UUID) -> bool:
        """Whether signing in asks for a code."""
        found = await self.db.scalar(select(Totp.id).where(Totp.user_id == user_id, Totp.confirmed_at.is_not(None)))
        return found is not None

    async def recovery_codes_left(self, user_id: UUID) -> int:
        """How many recovery codes somebody has still."""
        count = select(func.count()).select_from(RecoveryCode).where(RecoveryCode.user_id == user_id)
        return await self.db.scalar(count) or 0

    async def set_up(self, user: BaseUser) -> Setup:
        """Give somebody a secret for their app; nothing asks for a code before they `confirm` it.

        Raises:
            TotpEnabledException: When they have an app already.
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
        """Ask for codes from now on, as this one shows that the app works.

        Returns:
            The recovery codes, which are shown once.

        Raises:
            WrongCodeException: When the code is wrong, or there is no app to confirm.
            TooManyRequestsException: When too many were wrong.
        """
        async with self._attempt(user_id):
            if not await self._accept(user_id, code, Totp.confirmed_at.is_(None), confirmed_at=codes.now()):
                raise WrongCodeException
        self.emit(TotpEnabled(user_id=user_id))
        return await self._new_codes(user_id)

    async def disable(self, user_id: UUID, code: str) -> None:
        """Ask for no more codes.

        Raises:
            WrongCodeException: When the code is wrong, or there is no app.
            TooManyRequestsException: When too many were wrong.
        """
        await self._authorize(user_id, code)
        for table in (Totp, RecoveryCode):
            await self.db.execute(delete(table).where(table.user_id == user_id))
        self.emit(TotpDisabled(user_id=user_id))

    async def renew_codes(self, user_id: UUID, code: str) -> list[str]:
        """Give somebody new recovery codes, with which the old ones are void.

        Raises:
            WrongCodeException: When the code is wrong, or there is no app.
            TooManyRequestsException: When too many were wrong.
        """
        await self._authorize(user_id, code)
        self.emit(RecoveryCodesRenewed(user_id=user_id))
        return await self._new_codes(user_id)

    async def prove(self, user_id: UUID, code: str) -> None:
        """See that somebody who signs in has a code, which is used up by it. The challenge counts their tries.

        Commits when it is wrong, so that this is known.

        Raises:
            InvalidFactorException: When it is wrong or used.
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
        """Count a code of somebody signed in before it is looked at: they may be somebody else at an open browser."""
        await self.limiter.hit(WRONG_IN_A_ROW, "totp", user_id)
        yield
        await self.limiter.clear(WRONG_IN_A_ROW, "totp", user_id)

    async def _check(self, user_id: UUID, code: str) -> bool:
        """Use a code up, of either kind."""
        typed = code.replace(" ", "")
        if len(typed) == codes.DIGITS and typed.isdigit():
            return await self._accept(user_id, typed, Totp.confirmed_at.is_not(None))
        mine = and_(RecoveryCode.user_id == user_id, RecoveryCode.code_hash == codes.recovery_hash(typed))
        used = await self.db.scalar(delete(RecoveryCode).where(mine).returning(RecoveryCode.id))
        if used is not None:
            self.emit(RecoveryCodeUsed(user_id=user_id, left=await self.recovery_codes_left(user_id)))
        return used is not None

    async def _accept(self, user_id: UUID, code: str, state: ColumnElement[bool], **values: Any) -> bool:
        """Take a code, and with it all before it: of many at once, one is taken (RFC 6238, 5.2)."""
        mine = and_(Totp.user_id == user_id, state)
        secret = await self.db.scalar(select(Totp.secret).where(mine))
        step = (
            codes.accepted_step(secret, code, codes.now(), tolerance=self._own_settings.tolerance) if secret else None
        )
        if step is None:
            return False
        taken = await self.db.scalar(
            update(Totp).where(mine, Totp.last_step < step).values(last_step=step, **values).returning(Totp.id),
            execution_options={"synchronize_session": False},
        )
        return taken is not None

    async def _new_codes(self, user_id: UUID) -> list[str]:
        await self.db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
        new = [codes.new_recovery_code() for _ in range(RECOVERY_CODES)]
        self.db.add_all(RecoveryCode(user_id=user_id, code_hash=codes.recovery_hash(code)) for code in new)
        await self.db.flush()
        return new
