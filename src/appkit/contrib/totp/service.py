"""TotpService: authenticator apps, their codes, and recovery codes. Also their tables, errors, events and settings."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy import ColumnElement, ForeignKey, String, and_, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from appkit import AuthService, BaseService, BaseTableModel, BaseUser, EncryptedString, Event, Repository, SettingsGroup
from appkit.contrib.totp import codes
from appkit.exceptions import ConflictException, ForbiddenException, UnauthorizedException

RECOVERY_CODES: Final = 10
WRONG_IN_A_ROW: Final = "10/15 minutes"


class InvalidFactorException(UnauthorizedException):
    """The code that should finish signing in is wrong, expired or already used."""

    internal_code = 40160
    detail = "This code is wrong or already used. Wait for the next one."


class WrongCodeException(ForbiddenException):
    """A signed-in user gave a wrong code. The status is not 401, because the user stays signed in."""

    internal_code = 40260
    detail = "This code is wrong. Use the one that the app shows now."


class TotpEnabledException(ConflictException):
    """The user already has an authenticator app. Remove it before you set up another one."""

    internal_code = 40960
    detail = "An authenticator app is already set up. Remove it first."


class TotpSettings(SettingsGroup):
    """Codes from authenticator apps."""

    issuer: str | None = None
    """The name that authenticator apps show with the code. The default is `APP_NAME`."""
    tolerance: int = Field(default=0, ge=0, le=10)
    """How many earlier codes are accepted too. An app shows each code for 30 seconds."""


class Totp(BaseTableModel):
    """The authenticator app of a user."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), unique=True)
    secret: Mapped[str] = mapped_column(EncryptedString)
    confirmed_at: Mapped[datetime | None]
    """When the user confirmed the app with a code. Before that, signing in needs no code."""
    last_step: Mapped[int] = mapped_column(default=0)
    """The time step of the last accepted code. Codes of this step and of earlier steps are refused."""


class RecoveryCode(BaseTableModel):
    """A single-use code for a user who has lost the app. Using the code deletes the row."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    code_hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 in hexadecimal. The code itself is shown once and not stored."""


class _UserEvent(Event):
    """Base class of the events about the second factor of one user."""

    user_id: UUID


class TotpEnabled(_UserEvent):
    """A user set up an authenticator app. From now on, signing in needs a code."""


class TotpDisabled(_UserEvent):
    """A user removed the authenticator app. Signing in needs no code any more."""


class RecoveryCodesRenewed(_UserEvent):
    """A user got new recovery codes. The old ones are void."""


class RecoveryCodeUsed(_UserEvent):
    """A recovery code was used. The user may have lost the app, or somebody else may have the code."""

    left: int
    """How many unused codes the user still has."""


class SecondFactorFailed(_UserEvent):
    """A user, or somebody with the user's password, entered a wrong code at sign-in. Consider notifying the user."""


class TotpService(BaseService):
    """Authenticator apps and recovery codes of users."""

    async def is_enabled(self, user_id: UUID) -> bool:
        """Whether a user needs a code to sign in."""
        return await Repository[Totp](self.db).exists(Totp.user_id == user_id, Totp.confirmed_at.is_not(None))

    async def recovery_codes_left(self, user_id: UUID) -> int:
        """How many unused recovery codes a user has."""
        return await Repository[RecoveryCode](self.db).count(RecoveryCode.user_id == user_id)

    async def set_up(self, user: BaseUser) -> codes.SetupSchema:
        """Create a secret for a user's app. Signing in needs no code until `confirm` succeeds.

        Raises:
            TotpEnabledException: When the user already has an app.
        """
        if await self.is_enabled(user.id):
            raise TotpEnabledException
        await self.db.execute(delete(Totp).where(Totp.user_id == user.id))
        issuer = self.settings.group(TotpSettings).issuer or self.settings.app_name
        setup = codes.new_setup(account=user.email, issuer=issuer)
        await self.save(Totp(user_id=user.id, secret=setup.secret))
        return setup

    async def confirm(self, user_id: UUID, code: str) -> list[str]:
        """Confirm the app with a code from it, and return the recovery codes. From now on, signing in needs a code.

        Raises:
            WrongCodeException: When the code is wrong, or there is no app to confirm.
            TooManyRequestsException: After too many wrong codes.
        """
        unconfirmed = Totp.confirmed_at.is_(None)
        await self._attempt(user_id, lambda: self._accept(user_id, code, unconfirmed, confirmed_at=codes.now()))
        self.emit(TotpEnabled(user_id=user_id))
        return await self._new_codes(user_id)

    async def disable(self, user_id: UUID, code: str) -> None:
        """Remove the app and the recovery codes of a user.

        Raises:
            WrongCodeException: When the code is wrong, or there is no app.
            TooManyRequestsException: After too many wrong codes.
        """
        await self._attempt(user_id, lambda: self._check(user_id, code))
        for table in (Totp, RecoveryCode):
            await self.db.execute(delete(table).where(table.user_id == user_id))
        self.emit(TotpDisabled(user_id=user_id))

    async def renew_codes(self, user_id: UUID, code: str) -> list[str]:
        """Replace the recovery codes of a user. Raises the same errors as `disable`."""
        await self._attempt(user_id, lambda: self._check(user_id, code))
        self.emit(RecoveryCodesRenewed(user_id=user_id))
        return await self._new_codes(user_id)

    async def prove(self, challenge: str, code: str) -> None:
        """Verify and consume a code that finishes signing in.

        This method commits before it raises, so that a failed attempt counts and `SecondFactorFailed` is delivered.

        Raises:
            InvalidFactorException: When the code is wrong, expired or already used.
            InvalidTokenException: When the challenge is used, expired, or was attempted too often.
            TooManyRequestsException: After too many wrong codes.
        """
        user = await AuthService(self.db).challenged(challenge)
        if not await self._check(user.id, code):
            self.emit(SecondFactorFailed(user_id=user.id))
            await self.db.commit()
            raise InvalidFactorException

    async def _attempt(self, user_id: UUID, check: Callable[[], Awaitable[bool]]) -> None:
        """Count an attempt, then check the code. Otherwise a stranger at the user's browser could try all codes."""
        await self.limiter.hit(WRONG_IN_A_ROW, "totp", user_id)
        if not await check():
            raise WrongCodeException
        await self.limiter.clear(WRONG_IN_A_ROW, "totp", user_id)

    async def _check(self, user_id: UUID, code: str) -> bool:
        """Verify and consume a code from the app or a recovery code."""
        typed = code.replace(" ", "")
        if len(typed) == codes.DIGITS and typed.isdigit():
            return await self._accept(user_id, typed, Totp.confirmed_at.is_not(None))
        used = await Repository[RecoveryCode](self.db).delete_where(
            RecoveryCode.user_id == user_id, RecoveryCode.code_hash == codes.recovery_hash(typed)
        )
        if used:
            self.emit(RecoveryCodeUsed(user_id=user_id, left=await self.recovery_codes_left(user_id)))
        return used > 0

    async def _accept(self, user_id: UUID, code: str, state: ColumnElement[bool], **values: Any) -> bool:
        """Accept a code once (RFC 6238, 5.2), and refuse earlier codes afterwards. Of concurrent uses, one succeeds."""
        mine = and_(Totp.user_id == user_id, state)
        secret = await self.db.scalar(select(Totp.secret).where(mine))
        tolerance = self.settings.group(TotpSettings).tolerance
        step = codes.accepted_step(secret, code, codes.now(), tolerance=tolerance) if secret else None
        if step is None:
            return False
        values["last_step"] = step
        return await Repository[Totp](self.db).update_where(mine, Totp.last_step < step, values=values) > 0

    async def _new_codes(self, user_id: UUID) -> list[str]:
        await self.db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
        new = [codes.new_recovery_code() for _ in range(RECOVERY_CODES)]
        self.db.add_all(RecoveryCode(user_id=user_id, code_hash=codes.recovery_hash(code)) for code in new)
        await self.db.flush()
        return new
