"""Purging deletes old sign-in sessions and one-time tokens, and keeps all others. Runs on both databases."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from appkit.repository.auth import AuthSession, AuthToken
from appkit.repository.base import utcnow
from appkit.service.links import LinkService
from appkit.service.sessions import SessionService
from appkit.tasks.accounts import account_tasks

LONG_AGO = timedelta(days=31)
LATELY = timedelta(days=29)


@pytest.mark.parametrize("column", ["expires_at", "idle_expires_at", "revoked_at"])
async def test_purge_deletes_sessions_that_ended_a_month_ago(auth_client, db, column):
    assert await SessionService(db).purge() == 0
    for ago, deleted in ((LATELY, 0), (LONG_AGO, 1)):
        await db.execute(update(AuthSession).values({column: utcnow() - ago}))
        assert await SessionService(db).purge() == deleted
    assert (await db.scalars(select(AuthSession))).all() == []


async def test_purge_deletes_tokens_that_expired_a_month_ago(kit, db, user):
    await LinkService(db).make(await db.get_one(kit.context.user_model, user.id), "probe", ttl=60)
    for ago, deleted in ((LATELY, 0), (LONG_AGO, 1)):
        await db.execute(update(AuthToken).values(expires_at=utcnow() - ago))
        assert await SessionService(db).purge() == deleted


async def test_purge_is_scheduled(kit, app):
    assert [(schedule.name, schedule.cron) for schedule in account_tasks.schedules] == [
        ("appkit.accounts:purge", "17 3 * * *")
    ]
