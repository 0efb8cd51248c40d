"""Tasks that send account mails (verification, password reset, notices) and purge old sign-in sessions.

These tasks look up the account and send the mail, so no response time reveals whether an account exists. They also make
the tokens, so that no token is ever a task's argument.
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
from appkit.service.links import LinkService
from appkit.service.mails import MailService
from appkit.service.sessions import SessionService
from appkit.tasks.context import TaskContext
from appkit.tasks.router import TaskRouter

account_tasks = TaskRouter()

SPREAD: Final = 1.0
"""Seconds of random delay before a password reset is sent."""


@account_tasks.on(UserSignedUp, name="appkit.accounts:welcome")
async def welcome(event: UserSignedUp, task: TaskContext) -> None:
    """Send a new user a verification link, if there is a frontend for it or sign-up is private."""
    if task.settings.frontend.url or task.settings.auth.signup_mode == "private":
        await _send_verification(event.user_id, task)


@account_tasks.on(SignupRepeated, name="appkit.accounts:tell_account_exists")
async def tell_account_exists(event: SignupRepeated, task: TaskContext) -> None:
    """Mail the owner that the account exists, or send another verification link if the address is unverified."""
    async with task.session() as db:
        user = await _lock_user(db, email_key=parse_email(event.email).key)
        if user is None:
            return
        mail = await MailService(db).write("account_exists", user)
    if user.email_verified:
        await task.mailer.send(mail)
    else:
        await _send_verification(user.id, task)


@account_tasks.on(EmailVerificationRequested, name="appkit.accounts:send_verification")
async def send_verification(event: EmailVerificationRequested, task: TaskContext) -> None:
    """Send another verification link."""
    await _send_verification(event.user_id, task)


@account_tasks.on(PasswordResetRequested, name="appkit.accounts:send_reset")
async def send_reset(event: PasswordResetRequested, task: TaskContext) -> None:
    """Send a password reset link, if an account has this address.

    The task waits for a random time first. With an embedded worker, making the mail slows down the next request by
    some milliseconds. At a predictable time, this delay would reveal that the account exists.
    """
    if task.settings.environment != "test":
        await asyncio.sleep(SystemRandom().uniform(0, SPREAD))
    # Commit the token before sending it, because a mail can't be rolled back. A retry makes another token.
    async with task.session() as db:
        user = await _lock_user(db, email_key=parse_email(event.email).key)
        if user is None:
            return
        token = await LinkService(db).make(user, "reset_password", ttl=task.settings.auth.reset_ttl)
        mail = await MailService(db).write("reset_password", user, token=token)
    await task.mailer.send(mail)


@account_tasks.on(PasswordResetForced, name="appkit.accounts:send_forced_reset")
async def send_forced_reset(event: PasswordResetForced, task: TaskContext) -> None:
    """Send a password reset link, after a superuser forced a reset."""
    async with task.session() as db:
        user = await _lock_user(db, id=event.user_id)
        if user is None:
            return
        token = await LinkService(db).make(user, "reset_password", ttl=task.settings.auth.verify_ttl)
        mail = await MailService(db).write("reset_forced", user, token=token)
    await task.mailer.send(mail)


@account_tasks.on(UserDeleted, name="appkit.accounts:tell_deleted")
async def tell_deleted(event: UserDeleted, task: TaskContext) -> None:
    """Mail a deleted account's owner, in case somebody else deleted it."""
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
    await _tell_password_changed(event.user_id, task)


@account_tasks.on(PasswordReset, name="appkit.accounts:tell_password_reset")
async def tell_password_reset(event: PasswordReset, task: TaskContext) -> None:
    """Mail the owner that the password was reset (OWASP ASVS 6.3.7)."""
    await _tell_password_changed(event.user_id, task)


@account_tasks.on(EmailChangeRequested, name="appkit.accounts:send_email_change")
async def send_email_change(event: EmailChangeRequested, task: TaskContext) -> None:
    """Send a confirmation link to the new address, unless it is taken."""
    async with task.session() as db:
        user = await _lock_user(db, id=event.user_id)
        if user is None or await _is_taken(db, event.email):
            return
        ttl = task.settings.auth.verify_ttl
        token = await LinkService(db).make(user, "change_email", ttl=ttl, email=event.email)
        mail = await MailService(db).write("change_email", user, to=event.email, token=token)
    await task.mailer.send(mail)


@account_tasks.on(EmailChanged, name="appkit.accounts:tell_email_changed")
async def tell_email_changed(event: EmailChanged, task: TaskContext) -> None:
    """Mail the old address that the address was changed (OWASP ASVS 6.3.7)."""
    async with task.session() as db:
        user = await _lock_user(db, id=event.user_id)
        if user is None:
            return
        mail = await MailService(db).write("email_changed", user, to=event.old_email)
    await task.mailer.send(mail)


async def _send_verification(user_id: UUID, task: TaskContext) -> None:
    async with task.session() as db:
        user = await _lock_user(db, id=user_id)
        if user is None or user.email_verified:
            return
        token = await LinkService(db).make(user, "verify_email", ttl=task.settings.auth.verify_ttl)
        mail = await MailService(db).write("verify_email", user, token=token)
    await task.mailer.send(mail)


async def _tell_password_changed(user_id: UUID, task: TaskContext) -> None:
    async with task.session() as db:
        user = await _lock_user(db, id=user_id)
        if user is None:
            return
        mail = await MailService(db).write("password_changed", user)
    await task.mailer.send(mail)


async def _is_taken(db: AsyncSession, email: str) -> bool:
    """Whether an account has the address already. No mail is sent in this case."""
    user = app_context(db).user_model
    return await db.scalar(select(user.id).where(user.email_key == parse_email(email).key)) is not None


async def _lock_user(db: AsyncSession, **which: Any) -> BaseUser | None:
    """Lock an open account, so that no other transaction makes a token for it."""
    user = app_context(db).user_model
    return await db.scalar(select(user).filter_by(**which).where(user.is_open).with_for_update())
