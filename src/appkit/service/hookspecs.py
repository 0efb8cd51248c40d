"""Hooks of the services: sign-in, passwords, tokens, mails and data exports of an account."""

# A specification has no body.
# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from appkit.plugins.markers import hookspec, provisional

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from appkit.core.mail import Mail
    from appkit.repository.user import BaseUser
    from appkit.service.principals import Device


MailKind = Literal[
    "verify_email",
    "account_exists",
    "reset_password",
    "reset_forced",
    "password_changed",
    "change_email",
    "email_changed",
    "account_deleted",
]
"""The kinds of mails about accounts. Each kind has a template with the same name."""


class Challenge(NamedTuple):
    """A further proof that a user must give to sign in."""

    factors: Sequence[str]
    """The accepted kinds of proof, such as `["totp", "recovery_code"]`. The user chooses one."""


@hookspec
async def before_signin(user: BaseUser, methods: Sequence[str], device: Device, db: AsyncSession) -> Challenge | None:
    """Require a further proof from a user who signs in. To refuse the user, raise an exception.

    The hook is called before a sign-in session begins. If it returns a challenge, no sign-in session begins, and the
    response is `{"mfa_required": true, "challenge": …, "factors": […]}`. A route of the plugin receives the challenge
    with the proof, and calls `complete_challenge`.

    Args:
        user: The user, who has already authenticated by these methods.
        methods: How the user authenticated (RFC 8176), such as `["pwd"]`. A plugin's route passes its methods to
            `complete_signin`. The methods include `mfa` if the user has used more than one factor.
        device: The client's IP address, `device.ip`, and `device.user_agent`.
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
    """Add claims to a user's access tokens, as pairs of a name and a JSON value. Called for each new token.

    A claim `scope` has names separated by spaces, and limits the use of the token: see `require(scopes=…)`.

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
        user: The account; None at sign-up.
        db: The database session that will write the password. Don't read or write in this database session.

    Example:
        ```python
        @hookimpl
        def check_password(password):
            return ["The company's name is not a good password."] if "acme" in password.lower() else []
        ```
    """


@hookspec
async def export_account(user: BaseUser, db: AsyncSession) -> list[tuple[str, Any]]:
    """Add data to the export of a user's data, as pairs of a name and a value. Called for each export.

    Deleting an account emits `UserDeleted`. A subscriber should then delete the data that you store about the user.

    Example:
        ```python
        @hookimpl
        async def export_account(user, db):
            return [("posts", [post.title for post in await Repository(db, Post).list(Post.author_id == user.id)])]
        ```
    """


@hookspec
@provisional
async def write_mail(kind: MailKind, user: BaseUser, to: str, link: str | None) -> Mail | None:
    """Write a mail about an account in your own words. The first result that isn't None replaces appkit's mail.

    Args:
        kind: `verify_email`, `account_exists`, `reset_password`, `reset_forced`, `password_changed`, `change_email`,
            `email_changed` or `account_deleted`.
        user: The account.
        to: The recipient's e-mail address, which may differ from the account's.
        link: The link or, without `FRONTEND_URL`, only the token. None for a mail without a link.

    Example:
        ```python
        @hookimpl
        def write_mail(kind, user, to, link):
            if kind == "reset_password":
                return Mail(to=to, subject="A new password", text=f"Hello {user.nickname}, go to {link}")
        ```
    """
