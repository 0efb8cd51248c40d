"""PasskeyService: add and verify passkeys (W3C WebAuthn). Also their tables, errors, events and settings."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, String, delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from appkit import BaseService, BaseTableModel, BaseUser, Event, Repository, SettingsGroup, UserService
from appkit.contrib import required_by
from appkit.exceptions import BadRequestException, NotFoundException, UnauthorizedException

with required_by("passkeys"):
    import webauthn
    from webauthn import helpers
    from webauthn.helpers import structs
    from webauthn.helpers.exceptions import WebAuthnException

TTL: Final = timedelta(minutes=5)  # How long a challenge is valid.

# webauthn raises its own exceptions for invalid credentials, and any of these built-in ones for malformed credentials.
_REFUSED: Final = (WebAuthnException, ValueError, TypeError, AttributeError, RecursionError)


class PasskeysSettings(SettingsGroup):
    """Signing in with passkeys."""

    rp_id: str | None = None
    """The domain that passkeys belong to: the host of `FRONTEND_URL` (the default), or a parent domain. Changing the
    domain makes all existing passkeys unusable."""


class Passkey(BaseTableModel):
    """The public key of a passkey. The private key is on a device, in a password manager or on a security key."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    credential_id: Mapped[bytes] = mapped_column(LargeBinary(1023), unique=True)  # WebAuthn, 4: at most 1023 bytes.
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int]
    """How many signatures the authenticator has counted. It is always 0 for synchronised passkeys."""
    name: Mapped[str] = mapped_column(String(100))
    """The name that the owner gave the passkey."""
    transports: Mapped[list[str]] = mapped_column(default=list)
    """How the browser can reach the authenticator. The browser uses this hint in its dialog."""
    last_used_at: Mapped[datetime | None]


class PasskeyChallenge(BaseTableModel):
    """A single-use challenge for an authenticator to sign. Using the challenge deletes the row."""

    challenge: Mapped[bytes] = mapped_column(LargeBinary(64), unique=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    """The user who adds a passkey; None in a sign-in, because the user isn't known yet."""
    expires_at: Mapped[datetime] = mapped_column(index=True)


class InvalidPasskeyException(UnauthorizedException):
    """The passkey is unknown, has an invalid signature or challenge, or did not verify the user."""

    internal_code = 40165
    detail = "This passkey could not be used. Try again, or sign in in another way."


class PasskeyRefusedException(BadRequestException):
    """The new credential is malformed, belongs to another site, or did not verify the user."""

    internal_code = 40065
    detail = "This passkey could not be added. Try again."


class PasskeyAdded(Event):
    """A user added a passkey. From now on, the user can sign in with it."""

    user_id: UUID
    passkey_id: UUID


class PasskeyRemoved(Event):
    """A user removed a passkey. The user can no longer sign in with it."""

    user_id: UUID
    passkey_id: UUID


class PasskeyService(BaseService):
    """Passkeys of users. Each passkey verifies its user (fingerprint, face, PIN) and counts as two factors.

    `base_url` is the URL of the app. It is used only when `FRONTEND_URL` is not set.
    """

    def __init__(self, db: AsyncSession, base_url: str) -> None:
        super().__init__(db)
        pages = [urlsplit(url) for url in (self.settings.frontend.url or base_url, *self.settings.cors.origins)]
        self._origins = [f"{page.scheme}://{page.netloc}" for page in pages]
        self._rp_id = self.settings.group(PasskeysSettings).rp_id or pages[0].hostname or ""

    async def all(self, user_id: UUID) -> Sequence[Passkey]:
        """The passkeys of a user, oldest first."""
        return await Repository[Passkey](self.db).list(Passkey.user_id == user_id)

    async def creation_options(self, user: BaseUser) -> dict[str, Any]:
        """The options for `navigator.credentials.create()`."""
        known = [
            structs.PublicKeyCredentialDescriptor(
                each.credential_id, transports=list(map(structs.AuthenticatorTransport, each.transports))
            )
            for each in await self.all(user.id)
        ]
        options = webauthn.generate_registration_options(
            rp_id=self._rp_id,
            rp_name=self.settings.app_name,
            user_id=user.id.bytes,
            user_name=user.email,
            exclude_credentials=known,
            authenticator_selection=structs.AuthenticatorSelectionCriteria(
                resident_key=structs.ResidentKeyRequirement.REQUIRED,
                user_verification=structs.UserVerificationRequirement.REQUIRED,
            ),
        )
        await self._save_challenge(options.challenge, user.id)
        return helpers.options_to_json_dict(options)

    async def add(self, user_id: UUID, credential: dict[str, Any], name: str) -> Passkey:
        """Verify and store a passkey that the browser created.

        Raises:
            PasskeyRefusedException: When the challenge or origin is wrong, or the passkey did not verify the user.
        """
        try:
            parsed = helpers.parse_registration_credential_json(credential)
            verified = webauthn.verify_registration_response(
                credential=parsed,
                expected_challenge=await self._use_challenge(parsed.response.client_data_json, user_id),
                expected_rp_id=self._rp_id,
                expected_origin=self._origins,
                require_user_verification=True,
            )
        except _REFUSED as exc:
            raise PasskeyRefusedException from exc
        passkey = Passkey(
            user_id=user_id,
            credential_id=verified.credential_id,
            public_key=verified.credential_public_key,
            sign_count=verified.sign_count,
            name=name,
            transports=[str(each.value) for each in parsed.response.transports or ()],
        )
        await self.save(passkey)
        self.emit(PasskeyAdded(user_id=user_id, passkey_id=passkey.id))
        return passkey

    async def remove(self, user_id: UUID, passkey_id: UUID) -> None:
        """Delete a passkey of a user.

        Raises:
            NotFoundException: When the user has no such passkey.
        """
        if not await Repository[Passkey](self.db).delete_where(Passkey.id == passkey_id, Passkey.user_id == user_id):
            raise NotFoundException
        self.emit(PasskeyRemoved(user_id=user_id, passkey_id=passkey_id))

    async def request_options(self) -> dict[str, Any]:
        """The options for `navigator.credentials.get()`, without a user name."""
        options = webauthn.generate_authentication_options(
            rp_id=self._rp_id, user_verification=structs.UserVerificationRequirement.REQUIRED
        )
        await self._save_challenge(options.challenge, None)
        return helpers.options_to_json_dict(options)

    async def owner(self, credential: dict[str, Any]) -> BaseUser:
        """Verify a challenge that a passkey signed, and return the user of the passkey.

        Raises:
            InvalidPasskeyException: When the credential can't be verified.
        """
        try:
            used = helpers.parse_authentication_credential_json(credential)
            challenge = await self._use_challenge(used.response.client_data_json, None)
            # Locked, because two clones of a passkey may sign with the same count. Only one of them is accepted.
            known = select(Passkey).where(Passkey.credential_id == used.raw_id).with_for_update()
            passkey = await self.db.scalar(known)
            if passkey is None or used.response.user_handle not in {None, passkey.user_id.bytes}:
                raise InvalidPasskeyException
            verified = webauthn.verify_authentication_response(
                credential=used,
                expected_challenge=challenge,
                expected_rp_id=self._rp_id,
                expected_origin=self._origins,
                credential_public_key=passkey.public_key,
                credential_current_sign_count=passkey.sign_count,
                require_user_verification=True,
            )
        except _REFUSED as exc:
            raise InvalidPasskeyException from exc
        passkey.sign_count, passkey.last_used_at = verified.new_sign_count, datetime.now(UTC)
        await self.save(passkey)
        return await UserService(self.db).get(passkey.user_id)

    async def _save_challenge(self, challenge: bytes, user_id: UUID | None) -> None:
        now = datetime.now(UTC)
        await self.db.execute(delete(PasskeyChallenge).where(PasskeyChallenge.expires_at < now))
        await self.save(PasskeyChallenge(challenge=challenge, user_id=user_id, expires_at=now + TTL))

    async def _use_challenge(self, client_data: bytes, user_id: UUID | None) -> bytes:
        """Delete the challenge in the client data, commit, and return it. So a challenge can be tried only once."""
        challenge = helpers.parse_client_data_json(client_data).challenge
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
