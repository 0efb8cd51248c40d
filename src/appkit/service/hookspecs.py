"""Hooks of the services: sign-in, passwords, tokens, mails and data exports of an account."""

# A specification has no body.
# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from appkit.plugins.markers import hookspec, provisional

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from appkit.core.mail import Mail
    from appkit.repository.user import BaseUser
    from appkit.service.principals import Device


class Challenge(NamedTuple):
    """A further proof that a user must give before they are signed in."""

    factors: Sequence[str]
    """The kinds of proof to choose from, such as `["totp", "recovery_code"]`; the frontend asks for one."""


@hookspec
async def before_signin(user: BaseUser, methods: Sequence[str], device: Device, db: AsyncSession) -> Challenge | None:
    """Require a further proof of a user who signs in, or raise to refuse them. Called before a session begins.

    With a challenge, sign-in answers `{"mfa_required": true, "challenge": …, "factors": […]}` and no session begins.
    A route of the plugin receives the challenge with the proof, and calls `complete_challenge`.

    Args:
        user: The user who signs in; their password was right.
        methods: How they have proved it so far (RFC 8176): `["pwd"]`, or what a plugin's route passes to
            `complete_signin`. `mfa` in it means that they have used more than one factor.
        device: The client's address, `device.ip`, and `device.user_agent`.
        db: The database session of the sign-in.

    Example:
        ```python
        @hookimpl
        async def before_signin(user, methods, db):
            if "mfa" not in methods and await TotpService(db).is_enabled(user):
                return Challenge(["totp", "recovery_code"])
        ```
    """


@hookspec
@provisional
def token_claims(user: BaseUser) -> list[tuple[str, Any]]:
    """Add claims to a user's access tokens, as pairs of a name and a JSON value. Called for each token that is issued.

    A claim `scope`, names separated by spaces, limits what the token is valid for: see `require(scopes=…)`.

    Example:
        ```python
        @hookimpl
        def token_claims(user):
            return [("plan", user.plan)]
        ```
    """


@hookspec
async def check_password(password: str, user: BaseUser | None, db: AsyncSession) -> list[str]:
    """Refuse a new password, with sentences for the user. Called at sign-up and when a password is changed.

    Args:
        password: The password in plain text.
        user: The account that it is for; None at sign-up.
        db: The database session in which it will be set. Don't read or write in it: the password may yet be refused.

    Example:
        ```python
        @hookimpl
        def check_password(password):
            return ["The company's name is not a good password."] if "acme" in password.lower() else []
        ```
    """


@hookspec
async def export_account(user: BaseUser, db: AsyncSession) -> list[tuple[str, Any]]:
    """Add to a user's export of their data, as pairs of a name and a value. Called for each export.

    Deleting an account emits `UserDeleted`: delete what you store about the user then.

    Example:
        ```python
        @hookimpl
        async def export_account(user, db):
            return [("posts", [post.title for post in await Repository(db, Post).list(Post.author_id == user.id)])]
        ```
    """


@hookspec
@provisional
async def write_mail(kind: str, user: BaseUser, to: str, link: str | None) -> Mail | None:
    """Write a mail about an account in your own words. The first answer that isn't None replaces appkit's mail.

    Args:
        kind: `verify_email`, `account_exists`, `reset_password`, `reset_forced`, `password_changed`, `change_email`,
            `email_changed` or `account_deleted`.
        user: The account that it is about.
        to: The recipient's address, which may differ from the account's.
        link: The link in it or, without `FRONTEND_URL`, the token alone. None for a mail without a link.

    Example:
        ```python
        @hookimpl
        def write_mail(kind, user, to, link):
            if kind == "reset_password":
                return Mail(to=to, subject="A new password", text=f"Hello {user.nickname}, go to {link}")
        ```
    """
