"""PasskeyService: adding passkeys, and finding out whose one was used (W3C WebAuthn)."""

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
"""How long people have to touch a key."""

# The library says what is wrong by its own exceptions, and of what is no credential at all, by any.
_REFUSED: Final = (WebAuthnException, ValueError, TypeError, AttributeError, RecursionError)


class PasskeysSettings(SettingsGroup):
    """Signing in with passkeys."""

    rp_id: str | None = None
    """The host that passkeys are for, or a domain that it is in; unset, the host of `FRONTEND_URL`. Changing it makes
    all passkeys worthless."""


class Passkey(BaseTableModel):
    """A passkey of somebody's, on a device, in a password manager or on a security key."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    credential_id: Mapped[bytes] = mapped_column(LargeBinary(1023), unique=True)  # WebAuthn, 4: at most 1023 bytes.
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int]
    """How often it signed, as it says itself; one that is synchronised always says 0."""
    name: Mapped[str] = mapped_column(String(100))
    """What its owner calls it."""
    transports: Mapped[list[str]] = mapped_column(default=list)
    """How the browser reaches it, which helps it to ask for the right one."""
    last_used_at: Mapped[datetime | None]


class PasskeyChallenge(BaseTableModel):
    """What an authenticator is asked to sign, once. The row goes when it has."""

    challenge: Mapped[bytes] = mapped_column(LargeBinary(64), unique=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    """Who adds a passkey; None where somebody signs in, for who it is shows only then."""
    expires_at: Mapped[datetime] = mapped_column(index=True)


class InvalidPasskeyException(UnauthorizedException):
    """The passkey is unknown, what it signed is not what it was asked to, or nobody proved to it who they are."""

    internal_code = 40165
    detail = "This passkey could not be used. Try again, or sign in in another way."


class PasskeyRefusedException(BadRequestException):
    """What the browser sent to add a passkey is none, or not for this site."""

    internal_code = 40065
    detail = "This passkey could not be added. Try again."


class PasskeyAdded(Event):
    """Someone may sign in with another passkey from now on."""

    user_id: UUID
    passkey_id: UUID


class PasskeyRemoved(Event):
    """One of someone's passkeys is good for nothing any more."""

    user_id: UUID
    passkey_id: UUID


@dataclass(frozen=True)
class RelyingParty:
    """An app, as browsers and authenticators know it."""

    id: str
    origins: list[str]
    """The pages that may use its passkeys."""


class PasskeyService(BaseService):
    """Somebody's passkeys. Each is used with a finger, a face or a PIN, and so stands for two factors."""

    def __init__(self, db: AsyncSession, party: RelyingParty) -> None:
        super().__init__(db)
        self._party = party

    async def all(self, user_id: UUID) -> Sequence[Passkey]:
        """Somebody's passkeys, the oldest first."""
        found = await self.db.scalars(select(Passkey).where(Passkey.user_id == user_id).order_by(Passkey.id))
        return found.all()

    async def creation_options(self, user: BaseUser) -> dict[str, Any]:
        """What the browser passes to `navigator.credentials.create()`."""
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
                resident_key=ResidentKeyRequirement.REQUIRED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
        )
        await self._remember(options.challenge, user.id)
        return options_to_json_dict(options)

    async def add(self, user_id: UUID, credential: dict[str, Any], name: str) -> Passkey:
        """Keep a passkey that the browser made.

        Raises:
            PasskeyRefusedException: When it was not made for these options, on these pages, or by somebody who
                proved to it who they are.
        """
        try:
            made = parse_registration_credential_json(credential)
            verified = webauthn.verify_registration_response(
                credential=made,
                expected_challenge=await self._recall(made.response.client_data_json, user_id),
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
                transports=[str(each.value) for each in made.response.transports or ()],
            )
        )
        self.emit(PasskeyAdded(user_id=user_id, passkey_id=passkey.id))
        return passkey

    async def remove(self, user_id: UUID, passkey_id: UUID) -> None:
        """Forget a passkey.

        Raises:
            NotFoundException: When it isn't one of theirs.
        """
        mine = delete(Passkey).where(Passkey.id == passkey_id, Passkey.user_id == user_id)
        if await self.db.scalar(mine.returning(Passkey.id)) is None:
            raise NotFoundException
        self.emit(PasskeyRemoved(user_id=user_id, passkey_id=passkey_id))

    async def request_options(self) -> dict[str, Any]:
        """What the browser passes to `navigator.credentials.get()`; nobody has to say first who they are."""
        options = webauthn.generate_authentication_options(
            rp_id=self._party.id, user_verification=UserVerificationRequirement.REQUIRED
        )
        await self._remember(options.challenge, None)
        return options_to_json_dict(options)

    async def owner(self, credential: dict[str, Any]) -> UUID:
        """Whose passkey signed what it was asked to.

        Raises:
            InvalidPasskeyException: When it did not.
        """
        try:
            used = parse_authentication_credential_json(credential)
            challenge = await self._recall(used.response.client_data_json, None)
            # Locked, so that of two copies with the same count one is believed.
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

    async def _remember(self, challenge: bytes, user_id: UUID | None) -> None:
        now = datetime.now(UTC)
        await self.db.execute(delete(PasskeyChallenge).where(PasskeyChallenge.expires_at < now))
        await self.save(PasskeyChallenge(challenge=challenge, user_id=user_id, expires_at=now + TTL))

    async def _recall(self, client_data: bytes, user_id: UUID | None) -> bytes:
        """The challenge that was signed, if it is one of ours that nobody has used.

        Commits, so that it is used up whatever comes after.
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
            raise ValueError("This challenge is none of ours.")
        return found
