"""AuthService in races and long operations: connections, transactions, limits and claims."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from argon2 import Parameters, PasswordHasher, Type
from pwdlib.hashers.bcrypt import BcryptHasher
from sqlalchemy import func, select, update

from appkit.exceptions import (
    InvalidCredentialsException,
    RefreshReplayedException,
    ServiceUnavailableException,
    SessionRevokedException,
)
from appkit.kit import AppKit
from appkit.plugins.markers import hookimpl
from appkit.repository.auth import AuthSession
from appkit.repository.base import utcnow
from appkit.repository.user import BaseUser
from appkit.service.auth import AuthService
from appkit.service.hashing import PasswordPool, Security
from appkit.service.principals import Device, SignIn
from appkit.testing.plugin import PASSWORD

WEAKER = PasswordHasher.from_parameters(
    Parameters(type=Type.ID, version=19, salt_len=8, hash_len=8, time_cost=1, memory_cost=8, parallelism=1)
)


@pytest.fixture
def during_verify(monkeypatch):
    """Runs a coroutine function when a password has been verified, before anything is written."""

    def install(meanwhile):
        verify = PasswordPool.verify

        async def verify_then(self, hashed, password):
            known = await verify(self, hashed, password)
            await meanwhile()
            return known

        monkeypatch.setattr(PasswordPool, "verify", verify_then)

    return install


async def signin(kit: AppKit, user: BaseUser, **options: Any) -> SignIn:
    async with kit.session() as session:
        begun = await AuthService(session).signin(user.email, PASSWORD, **options)
        assert isinstance(begun, SignIn)
        return begun


async def test_signin_records_time_and_device(kit, app, user):
    began = utcnow()
    await signin(kit, user, device=Device("2001:db8::1" + " and what a proxy was sent" * 9, "x" * 1000))
    async with kit.session() as session:
        row = (await session.scalars(select(AuthSession))).one()
        owner = await session.get_one(kit.context.user_model, user.id)
    assert row.ip.startswith("2001:db8::1")
    assert (len(row.ip), row.user_agent, row.amr) == (45, "x" * 256, ["pwd"])
    assert began <= owner.last_signin_at <= utcnow()
    assert owner.updated_at == user.updated_at  # Signing in is no change of the account.


async def test_signin_holds_no_connection_while_hashing(kit, app, user, during_verify):
    """On SQLite, the held connection would be the only writer, so all other requests would wait."""
    held = []

    async def look():
        held.append(kit.database.engine.pool.checkedout())
        async with asyncio.timeout(30), kit.session() as other:
            await other.execute(update(kit.context.user_model).values(last_signin_at=None))

    during_verify(look)
    await signin(kit, user)
    assert held == [0]


async def test_signin_keeps_the_callers_transaction_open(kit, app, user):
    async with kit.session() as session:
        await session.execute(update(kit.context.user_model).values(is_superuser=True))
        with pytest.raises(InvalidCredentialsException):
            await AuthService(session).signin(user.email, "wrong horse")
        await session.rollback()
    async with kit.session() as session:
        assert not await session.scalar(select(kit.context.user_model.is_superuser))


@pytest.mark.parametrize("change", [{"security_version": 2}, {"is_active": False}, {"deleted_at": func.now()}])
async def test_signin_that_races_a_change_of_the_account_leaves_no_live_session(kit, app, user, during_verify, change):
    async def change_account():
        async with kit.session() as session:
            await session.execute(update(kit.context.user_model).values(change))

    during_verify(change_account)
    with pytest.raises(InvalidCredentialsException):
        await signin(kit, user)
    async with kit.session() as session:
        assert await session.scalar(select(func.count()).select_from(AuthSession)) == 0


async def test_signin_renews_a_hash_with_other_parameters(kit, app, user):
    model = kit.context.user_model
    async with kit.session() as session:
        await session.execute(update(model).values(hashed_password=WEAKER.hash(PASSWORD)))
    begun = await signin(kit, user)
    async with kit.session() as session:
        renewed = await session.scalar(select(model.hashed_password))
    assert not Security.of(kit.context).passwords.is_outdated(renewed)
    assert begun.user.hashed_password == renewed
    await signin(kit, user)


async def test_signin_replaces_bcrypt_with_argon2(kit, app, user):
    model = kit.context.user_model
    async with kit.session() as session:
        await session.execute(update(model).values(hashed_password=BcryptHasher(rounds=4).hash(PASSWORD)))
    with pytest.raises(InvalidCredentialsException):
        async with kit.session() as session:
            await AuthService(session).signin(user.email, "wrong")
    await signin(kit, user)
    async with kit.session() as session:
        assert str(await session.scalar(select(model.hashed_password))).startswith("$argon2id$")
    await signin(kit, user)


async def test_signin_does_not_overwrite_a_hash_changed_meanwhile(kit, app, user, during_verify):
    model, other = kit.context.user_model, WEAKER.hash("another password")

    async def change_password():
        async with kit.session() as session:
            await session.execute(update(model).values(hashed_password=other))

    async with kit.session() as session:
        await session.execute(update(model).values(hashed_password=WEAKER.hash(PASSWORD)))
    during_verify(change_password)
    await signin(kit, user)
    async with kit.session() as session:
        assert await session.scalar(select(model.hashed_password)) == other


async def test_signin_is_refused_before_any_work_if_the_queue_is_full(kit, app, user, count_queries, monkeypatch):
    monkeypatch.setattr(Security.of(kit.context).passwords, "_max_pending", 0)
    with count_queries(max=0), pytest.raises(ServiceUnavailableException):
        await signin(kit, user)


async def test_signin_takes_few_statements(kit, app, user, count_queries):
    with count_queries(max=4):
        await signin(kit, user)


async def test_tokens_have_plugins_claims_after_a_refresh_too(kit, app, user):
    class Plans:
        @hookimpl
        def token_claims(self, user):
            return [("plan", f"pro for {user.email}")]

    kit.plugins.register(Plans())
    pair = (await signin(kit, user)).tokens
    async with kit.session() as session:
        refreshed = await AuthService(session).refresh(pair.refresh)
    for token in (pair.access, refreshed.access):
        assert Security.of(kit.context).tokens.read_access(token).claims["plan"] == f"pro for {user.email}"


async def test_refresh_commits_the_end_of_a_session_before_it_refuses(kit, app, user, monkeypatch):
    """The exception rolls the caller's transaction back, and a thief must not stay signed in."""
    pair = (await signin(kit, user)).tokens
    async with kit.session() as session:
        await AuthService(session).refresh(pair.refresh)
        await session.execute(update(AuthSession).values(rotated_at=utcnow() - timedelta(minutes=1)))
    with pytest.raises(RefreshReplayedException):
        async with kit.session() as session:
            await AuthService(session).refresh(pair.refresh)
    async with kit.session() as session:
        assert await session.scalar(select(AuthSession.revoked_reason)) == "refresh_replayed"


async def test_user_is_read_in_one_statement_and_usable_afterwards(kit, app, user, count_queries):
    principal = Security.of(kit.context).tokens.read_access((await signin(kit, user)).tokens.access)
    with count_queries(max=1):
        async with kit.database.read_session(primary=True) as session:
            found = await AuthService(session).user(principal)
    assert (found.id, found.email, found.created_at) == (user.id, user.email, user.created_at)


async def test_user_is_refused_for_the_session_of_another(kit, app, user, make_user):
    """A valid signature is not enough: the sign-in session must belong to the token's user."""
    other = await make_user()
    principal = Security.of(kit.context).tokens.read_access((await signin(kit, user)).tokens.access)
    for changed in ({"user_id": other.id}, {"security_version": 2}, {"session_id": user.id}):
        async with kit.session() as session:
            with pytest.raises(SessionRevokedException):
                await AuthService(session).user(principal.model_copy(update=changed))


async def test_concurrent_signins_respect_the_session_limit(kit, app, user, monkeypatch):
    auth = kit.settings.auth.model_copy(update={"max_sessions": 3})
    monkeypatch.setattr(kit.context, "settings", kit.settings.model_copy(update={"auth": auth}))
    await asyncio.gather(*(signin(kit, user) for _ in range(12)))
    async with kit.session() as session:
        live = select(func.count()).select_from(AuthSession).where(AuthSession.revoked_at.is_(None))
        assert await session.scalar(live) == 3


async def test_expired_session_does_not_count_for_the_limit(kit, app, user, monkeypatch):
    auth = kit.settings.auth.model_copy(update={"max_sessions": 2})
    monkeypatch.setattr(kit.context, "settings", kit.settings.model_copy(update={"auth": auth}))
    await signin(kit, user)
    ended = (await signin(kit, user)).tokens
    async with kit.session() as session:
        (session_id,) = Security.of(kit.context).tokens.session_ids(ended.access)
        past = utcnow() - timedelta(days=1)
        await session.execute(update(AuthSession).where(AuthSession.id == session_id).values(expires_at=past))
    await signin(kit, user)
    async with kit.session() as session:
        assert await session.scalar(select(func.count()).where(AuthSession.revoked_at.is_not(None))) == 0
