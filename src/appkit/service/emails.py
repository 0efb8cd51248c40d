"""EmailService: whether somebody's address is theirs."""

from sqlalchemy import update

from appkit.domain.events import EmailVerificationRequested, EmailVerified
from appkit.exceptions import InvalidTokenException
from appkit.repository.base import utcnow
from appkit.repository.user import BaseUser
from appkit.service.links import LinkService
from appkit.service.sessions import QUIET, SessionKeeper


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
