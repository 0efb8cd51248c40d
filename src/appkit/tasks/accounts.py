"""Tasks that send the mails about accounts, and a task that purges old sign-in sessions.

The tasks look up the account, so no response time reveals whether an account exists. They also make the tokens, so that
no token is ever a task's argument.
"""

import asyncio
from secrets import SystemRandom
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.domain.emails import parse_email
from appkit.domain.events import (
    EmailChanged,
    EmailChangeRequested,
    EmailVerificationRequested,
    PasswordChanged,
    PasswordReset,
    PasswordResetForced,
    PasswordResetRequested,
    SignupRepeated,
    UserDeleted,
    UserSignedUp,
)
from appkit.repository.context import app_context
from appkit.repository.user import BaseUser
from appkit.service.hookspecs import MailKind
from appkit.service.links import LinkService
from appkit.service.mails import MailService
from appkit.service.sessions import SessionService
from appkit.service.users import UserService
from appkit.tasks.context import TaskContext
from appkit.tasks.router import TaskRouter

account_tasks = TaskRouter()

SPREAD: Final = 1.0
"""The longest random delay in seconds before a password reset is sent."""


@account_tasks.on(UserSignedUp, name="appkit.accounts:welcome")
async def welcome(event: UserSignedUp, task: TaskContext) -> None:
    """Send a new user a verification link, if the app has a frontend or sign-up is private."""
    if task.settings.frontend.url or task.settings.auth.signup_mode == "private":
        await _send_verification(task, event.user_id)


@account_tasks.on(SignupRepeated, name="appkit.accounts:tell_account_exists")
async def tell_account_exists(event: SignupRepeated, task: TaskContext) -> None:
    """Mail the owner that the account exists. An unverified e-mail address gets another verification link instead."""
    async with task.session() as db:
        user = await _lock_user(db, email_key=parse_email(event.email).key)
    if user is None:
        return
    if user.email_verified:
        await _send_mail(task, "account_exists", id=user.id)
    else:
        await _send_verification(task, user.id)


@account_tasks.on(EmailVerificationRequested, name="appkit.accounts:send_verification")
async def send_verification(event: EmailVerificationRequested, task: TaskContext) -> None:
    """Send another verification link."""
    await _send_verification(task, event.user_id)


@account_tasks.on(PasswordResetRequested, name="appkit.accounts:send_reset")
async def send_reset(event: PasswordResetRequested, task: TaskContext) -> None:
    """Send a password reset link, if an account has this e-mail address.

    The task waits for a random time first. With an embedded worker, making the mail slows down the next request by
    some milliseconds. At a predictable time, this delay would reveal that the account exists.
    """
    if task.settings.environment != "test":
        await asyncio.sleep(SystemRandom().uniform(0, SPREAD))
    await _send_mail(task, "reset_password", purpose="reset_password", email_key=parse_email(event.email).key)


@account_tasks.on(PasswordResetForced, name="appkit.accounts:send_forced_reset")
async def send_forced_reset(event: PasswordResetForced, task: TaskContext) -> None:
    """Send a password reset link, after a superuser forced a reset."""
    await _send_mail(task, "reset_forced", purpose="reset_password", id=event.user_id)


@account_tasks.on(UserDeleted, name="appkit.accounts:tell_deleted")
async def tell_deleted(event: UserDeleted, task: TaskContext) -> None:
    """Mail the owner of a deleted account, in case somebody else deleted the account."""
    async with task.session() as db:
        user = await db.get(app_context(db).user_model, event.user_id)
        if user is None:
            return
        mail = await MailService(db).write("account_deleted", user, to=event.email)
    await task.mailer.send(mail)


@account_tasks.cron("17 3 * * *", name="appkit.accounts:purge")
async def purge(task: TaskContext) -> None:
    """Delete sign-in sessions and one-time tokens that have been invalid for a month."""
    async with task.session() as db:
        await SessionService(db).purge()


@account_tasks.on(PasswordChanged, name="appkit.accounts:tell_password_changed")
async def tell_password_changed(event: PasswordChanged, task: TaskContext) -> None:
    """Mail the owner that the password was changed (OWASP ASVS 6.3.7)."""
    await _send_mail(task, "password_changed", id=event.user_id)


@account_tasks.on(PasswordReset, name="appkit.accounts:tell_password_reset")
async def tell_password_reset(event: PasswordReset, task: TaskContext) -> None:
    """Mail the owner that the password was reset (OWASP ASVS 6.3.7)."""
    await _send_mail(task, "password_changed", id=event.user_id)


@account_tasks.on(EmailChangeRequested, name="appkit.accounts:send_email_change")
async def send_email_change(event: EmailChangeRequested, task: TaskContext) -> None:
    """Send a confirmation link to the new e-mail address, unless another account has this address."""
    async with task.session() as db:
        if await UserService(db).find(event.email) is not None:
            return
    await _send_mail(task, "change_email", to=event.email, purpose="change_email", id=event.user_id)


@account_tasks.on(EmailChanged, name="appkit.accounts:tell_email_changed")
async def tell_email_changed(event: EmailChanged, task: TaskContext) -> None:
    """Mail the old e-mail address that the address was changed (OWASP ASVS 6.3.7)."""
    await _send_mail(task, "email_changed", to=event.old_email, id=event.user_id)


async def _send_verification(task: TaskContext, user_id: UUID) -> None:
    """Send a verification link, unless the e-mail address is verified."""
    await _send_mail(task, "verify_email", purpose="verify_email", id=user_id, email_verified_at=None)


async def _send_mail(
    task: TaskContext, kind: MailKind, *, to: str | None = None, purpose: str | None = None, **which: Any
) -> None:
    """Send a mail about an open account with these columns, if one exists. With a purpose, the mail has a link."""
    ttl = task.settings.auth.reset_ttl if kind == "reset_password" else task.settings.auth.verify_ttl
    # Commit the token before sending it, because a mail can't be rolled back. A retry makes another token.
    async with task.session() as db:
        user, links, forgotten = await _lock_user(db, **which), LinkService(db), kind == "reset_password"
        if user is None or (forgotten and task.attempt == 1 and await links.has_enough(user, kind, ttl=ttl)):
            return
        # Anybody can request a link for a forgotten password, so it must not void the link that the owner is using.
        token = await links.make(user, purpose, ttl=ttl, email=to, others=forgotten) if purpose else None
        mail = await MailService(db).write(kind, user, to=to, token=token)
    await task.mailer.send(mail)


async def _lock_user(db: AsyncSession, **which: Any) -> BaseUser | None:
    """Lock an open account, so that no other transaction makes a token for it."""
    user = app_context(db).user_model
    return await db.scalar(select(user).filter_by(**which).where(user.is_open).with_for_update())
