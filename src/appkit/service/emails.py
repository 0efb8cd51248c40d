"""EmailService: whether somebody's address is theirs, and changing it."""

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from appkit.domain.emails import parse_email
from appkit.domain.events import EmailChanged, EmailChangeRequested, EmailVerificationRequested, EmailVerified
from appkit.exceptions import EmailTakenException, InvalidTokenException
from appkit.repository.base import utcnow
from appkit.repository.user import BaseUser
from appkit.service.links import LinkService
from appkit.service.sessions import QUIET, SessionKeeper
from appkit.service.users import is_email_taken


class EmailService(SessionKeeper):
    """The addresses of accounts."""

    def ask_to_verify(self, user: BaseUser) -> None:
        """Ask for another link to verify an address; for one that is verified, nothing happens."""
        if not user.email_verified:
            self.emit(EmailVerificationRequested(user_id=user.id))

    async def verify(self, token: str) -> None:
        """Note that whoever has the link from the mail has the address.

        Raises:
            InvalidTokenException: When the link is not, or no longer, good.
        """
        used = await LinkService(self.db).consume(token, "verify_email")
        user = self._users
        verified = await self.db.scalar(
            update(user)
            .where(user.id == used.user_id, user.email == used.email)
            .values(email_verified_at=utcnow())
            .returning(user.id),
            execution_options=QUIET,
        )
        if verified is None:
            raise InvalidTokenException
        self.emit(EmailVerified(user_id=used.user_id))

    def ask_to_change(self, user: BaseUser, email: str) -> None:
        """Ask for a link to use another address. Until it is followed, nothing changes."""
        self.emit(EmailChangeRequested(user_id=user.id, email=email))

    async def change(self, token: str) -> None:
        """Use the address that a link was sent to, which proves that it is theirs.

        The address is the one on the token's own row, so that a later request can't slip another one in
        (CVE-2026-32700). All other links that were sent to the account are void.

        Raises:
            InvalidTokenException: When the link is not, or no longer, good.
            EmailTakenException: When somebody else has the address by now.
        """
        links = LinkService(self.db)
        used = await links.consume(token, "change_email")
        user = await self.db.scalar(
            select(self._users).where(self._users.id == used.user_id, self._is_open).with_for_update()
        )
        if user is None or used.email is None:
            raise InvalidTokenException
        address, old = parse_email(used.email), user.email
        user.email, user.email_key, user.email_verified_at = address.address, address.key, utcnow()
        try:
            await self.save(user)
        except IntegrityError as exc:
            if not is_email_taken(exc):
                raise
            raise EmailTakenException from None
        await links.void(user.id)
        self.emit(EmailChanged(user_id=user.id, old_email=old))
