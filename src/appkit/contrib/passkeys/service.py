"""PasskeyService: add and verify passkeys (W3C WebAuthn). Also their tables, events and settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, String, delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from appkit import BaseService, BaseTableModel, BaseUser, Event, SettingsGroup
from appkit.exceptions import AppKitError, BadRequestException, NotFoundException, UnauthorizedException

try:
    import webauthn
    from webauthn.helpers import (
        options_to_json_dict,
        parse_authentication_credential_json,
        parse_client_data_json,
        parse_registration_credential_json,
    )
    from webauthn.helpers.exceptions import WebAuthnException
    from webauthn.helpers.structs import (
        AuthenticatorSelectionCriteria,
        AuthenticatorTransport,
        PublicKeyCredentialDescriptor,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )
except ImportError as exc:
    raise AppKitError(
        "The plugin passkeys needs webauthn, which is not installed. "
        "Install it: pip install 'fastapi-appkit[passkeys]'."
    ) from exc

TTL: Final = timedelta(minutes=5)
"""How long a challenge is valid."""

# For invalid credentials, webauthn raises its own exceptions; for malformed ones, any of the built-in ones here.
_REFUSED: Final = (WebAuthnException, ValueError, TypeError, AttributeError, RecursionError)


class PasskeysSettings(SettingsGroup):
    """Signing in with passkeys."""

    rp_id: str | None = None
    """The host that passkeys belong to, or a parent domain; unset, the host of `FRONTEND_URL`. Changing it makes all
    existing passkeys unusable."""


class Passkey(BaseTableModel):
    """The public half of a passkey, which is on a device, in a password manager or on a security key."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    credential_id: Mapped[bytes] = mapped_column(LargeBinary(1023), unique=True)  # WebAuthn, 4: at most 1023 bytes.
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int]
    """The authenticator's own count of its signatures; always 0 for synchronised passkeys."""
    name: Mapped[str] = mapped_column(String(100))
    """The name that the owner gave the passkey."""
    transports: Mapped[list[str]] = mapped_column(default=list)
    """How the browser reaches the authenticator, a hint for the browser's dialog."""
    last_used_at: Mapped[datetime | None]


class PasskeyChallenge(BaseTableModel):
    """A single-use challenge for an authenticator to sign. Using it deletes the row."""

    challenge: Mapped[bytes] = mapped_column(LargeBinary(64), unique=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    """The user who adds a passkey; None in a sign-in, where the user isn't known yet."""
    expires_at: Mapped[datetime] = mapped_column(index=True)


class InvalidPasskeyException(UnauthorizedException):
    """The passkey is unknown, its signature or challenge is invalid, or it did not verify the user."""

    internal_code = 40165
    detail = "This passkey could not be used. Try again, or sign in in another way."


class PasskeyRefusedException(BadRequestException):
    """The new credential is malformed, belongs to another site, or did not verify the user."""

    internal_code = 40065
    detail = "This passkey could not be added. Try again."


class PasskeyAdded(Event):
    """A user added a passkey and can sign in with it from now on."""

    user_id: UUID
    passkey_id: UUID


class PasskeyRemoved(Event):
    """A user removed a passkey, which no longer signs them in."""

    user_id: UUID
    passkey_id: UUID


@dataclass(frozen=True)
class RelyingParty:
    """The app, as browsers and authenticators identify it."""

    id: str
    origins: list[str]
    """The origins whose pages may use the app's passkeys."""


class PasskeyService(BaseService):
    """Passkeys of users. Each passkey verifies its user (fingerprint, face, PIN) and counts as two factors."""

    def __init__(self, db: AsyncSession, party: RelyingParty) -> None:
        super().__init__(db)
        self._party = party

    async def all(self, user_id: UUID) -> Sequence[Passkey]:
        """The passkeys of a user, oldest first."""
        found = await self.db.scalars(select(Passkey).where(Passkey.user_id == user_id).order_by(Passkey.id))
        return found.all()

    async def creation_options(self, user: BaseUser) -> dict[str, Any]:
        """The options for `navigator.credentials.create()`."""
        known = [
            PublicKeyCredentialDescriptor(
                passkey.credential_id, transports=[AuthenticatorTransport(each) for each in passkey.transports]
            )
            for passkey in await self.all(user.id)
        ]
        options = webauthn.generate_registration_options(
            rp_id=self._party.id,
            rp_name=self.settings.app_name,
            user_id=user.id.bytes,
            user_name=user.email,
            exclude_credentials=known,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
        )
        await self._save_challenge(options.challenge, user.id)
        return options_to_json_dict(options)

    async def add(self, user_id: UUID, credential: dict[str, Any], name: str) -> Passkey:
        """Verify and store a passkey that the browser created.

        Raises:
            PasskeyRefusedException: When the challenge or origin is wrong, or the passkey did not verify the user.
        """
        try:
            parsed = parse_registration_credential_json(credential)
            verified = webauthn.verify_registration_response(
                credential=parsed,
                expected_challenge=await self._use_challenge(parsed.response.client_data_json, user_id),
                expected_rp_id=self._party.id,
                expected_origin=self._party.origins,
                require_user_verification=True,
            )
        except _REFUSED as exc:
            raise PasskeyRefusedException from exc
        passkey = await self.save(
            Passkey(
                user_id=user_id,
                credential_id=verified.credential_id,
                public_key=verified.credential_public_key,
                sign_count=verified.sign_count,
                name=name,
                transports=[str(each.value) for each in parsed.response.transports or ()],
            )
        )
        self.emit(PasskeyAdded(user_id=user_id, passkey_id=passkey.id))
        return passkey

    async def remove(self, user_id: UUID, passkey_id: UUID) -> None:
        """Delete a passkey of a user.

        Raises:
            NotFoundException: When the user has no such passkey.
        """
        mine = delete(Passkey).where(Passkey.id == passkey_id, Passkey.user_id == user_id)
        if await self.db.scalar(mine.returning(Passkey.id)) is None:
            raise NotFoundException
        self.emit(PasskeyRemoved(user_id=user_id, passkey_id=passkey_id))

    async def request_options(self) -> dict[str, Any]:
        """The options for `navigator.credentials.get()`, without a user name."""
        options = webauthn.generate_authentication_options(
            rp_id=self._party.id, user_verification=UserVerificationRequirement.REQUIRED
        )
        await self._save_challenge(options.challenge, None)
        return options_to_json_dict(options)

    async def owner(self, credential: dict[str, Any]) -> UUID:
        """Verify a signed challenge, and return the id of the passkey's user.

        Raises:
            InvalidPasskeyException: When the credential can't be verified.
        """
        try:
            used = parse_authentication_credential_json(credential)
            challenge = await self._use_challenge(used.response.client_data_json, None)
            # Locked, so that if two clones of a passkey sign with the same count, only one is accepted.
            mine = select(Passkey).where(Passkey.credential_id == used.raw_id).with_for_update()
            passkey = await self.db.scalar(mine)
            if passkey is None or used.response.user_handle not in {None, passkey.user_id.bytes}:
                raise InvalidPasskeyException
            verified = webauthn.verify_authentication_response(
                credential=used,
                expected_challenge=challenge,
                expected_rp_id=self._party.id,
                expected_origin=self._party.origins,
                credential_public_key=passkey.public_key,
                credential_current_sign_count=passkey.sign_count,
                require_user_verification=True,
            )
        except _REFUSED as exc:
            raise InvalidPasskeyException from exc
        passkey.sign_count, passkey.last_used_at = verified.new_sign_count, datetime.now(UTC)
        await self.save(passkey)
        return passkey.user_id

    async def _save_challenge(self, challenge: bytes, user_id: UUID | None) -> None:
        now = datetime.now(UTC)
        await self.db.execute(delete(PasskeyChallenge).where(PasskeyChallenge.expires_at < now))
        await self.save(PasskeyChallenge(challenge=challenge, user_id=user_id, expires_at=now + TTL))

    async def _use_challenge(self, client_data: bytes, user_id: UUID | None) -> bytes:
        """The challenge in the client data, if it was issued and is unused.

        Commits, so that the challenge is used up even if verification fails.
        """
        challenge = parse_client_data_json(client_data).challenge
        asked = delete(PasskeyChallenge).where(
            PasskeyChallenge.challenge == challenge,
            PasskeyChallenge.user_id.is_(None) if user_id is None else PasskeyChallenge.user_id == user_id,
            PasskeyChallenge.expires_at > datetime.now(UTC),
        )
        found: bytes | None = await self.db.scalar(asked.returning(PasskeyChallenge.challenge))
        await self.db.commit()
        if found is None:
            raise ValueError("The challenge is unknown, expired or already used.")
        return found
