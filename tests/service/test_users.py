"""UserService: accounts that the command line or superusers create and change."""

from uuid import uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from appkit.domain.events import AccountTakenOver, UserCreated, UserDemoted, UserPromoted, UserSignedUp
from appkit.exceptions import (
    ConflictException,
    EmailTakenException,
    SignupClosedException,
    UnprocessableException,
)
from appkit.plugins.markers import hookimpl
from appkit.repository.base import utcnow
from appkit.service.auth import AuthService
from appkit.service.users import UserService
from appkit.testing.plugin import PASSWORD


async def test_create_makes_an_ordinary_user_by_default(db):
    users = UserService(db)
    ada = await users.create("Ada@Example.com", PASSWORD)
    root = await users.create("root@example.com", PASSWORD, superuser=True)
    assert (ada.email, ada.email_key, ada.is_superuser) == ("Ada@example.com", "ada@example.com", False)
    assert root.is_superuser
    assert ada.hashed_password
    assert PASSWORD not in ada.hashed_password


async def test_create_allows_one_account_per_address(kit, app, user):
    with pytest.raises(EmailTakenException):
        async with kit.session() as db:
            await UserService(db).create(user.email.upper(), PASSWORD)


async def test_create_does_not_report_other_conflicts_as_taken_address(kit, db, user, monkeypatch):
    model = kit.context.user_model
    make = model.__init__
    monkeypatch.setattr(model, "__init__", lambda self, **values: make(self, id=user.id, **values))
    with pytest.raises(IntegrityError):
        await UserService(db).create("free@example.com", PASSWORD)


@pytest.mark.parametrize(
    ("email", "password", "field", "detail"),
    [
        ("nobody", PASSWORD, "email", "Enter an e-mail address such as name@example.com."),
        ("ada@example.com", "short", "password", "Use at least 8 characters."),
        ("ada@example.com", "\ud800" * 9, "password", "Leave out characters that can't be sent as text."),
        ("ada@example.com", "ada@example.com", "password", "Don't use your e-mail address or the app's name."),
    ],
)
async def test_create_lists_what_is_not_acceptable(db, email, password, field, detail):
    """The detail has the reason too, because the command line shows only the detail."""
    with pytest.raises(UnprocessableException) as refused:
        await UserService(db).create(email, password)
    assert refused.value.detail == detail
    assert [(error["field"], error["message"]) for error in refused.value.extra["errors"]] == [(field, detail)]


async def test_create_asks_plugins_about_the_password(kit, db):
    class NoHorses:
        @hookimpl
        def check_password(self, password):
            return ["No horses, please."] if "horse" in password else []

    kit.plugins.register(NoHorses())
    with pytest.raises(UnprocessableException, match=r"No horses, please\."):
        await UserService(db).create("ada@example.com", PASSWORD)
    await UserService(db).create("ada@example.com", "correct zebra battery staple")


async def test_promote_makes_a_superuser_and_demote_an_ordinary_user(db, user, events):
    users = UserService(db)
    assert (await users.promote(user.id)).is_superuser
    assert not (await users.demote(user.id, by=user.id)).is_superuser
    await db.commit()
    assert events == [UserPromoted(user_id=user.id, by=None), UserDemoted(user_id=user.id, by=user.id)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"q": "DA@EX"}, ["ada@example.com"]),
        ({"q": "a%"}, []),
        ({"active": False}, ["bob@example.com"]),
        ({"superuser": True}, ["cleo@example.com"]),
        ({"verified": True}, ["ada@example.com"]),
        ({"verified": False, "active": True, "superuser": False}, []),
    ],
)
async def test_page_filters_users(db, make_user, query, found):
    ada, bob, _ = [await make_user(f"{name}@example.com", superuser=name == "cleo") for name in ("ada", "bob", "cleo")]
    (await db.merge(ada)).email_verified_at = utcnow()
    (await db.merge(bob)).is_active = False
    await db.flush()
    assert [user.email for user in (await UserService(db).page(**query)).items] == found


async def test_disable_ends_sessions_for_good_and_refuses_ones_own_account(db, user):
    users = UserService(db)
    disabled = await users.disable(user.id, by=uuid4())
    assert (disabled.is_active, disabled.security_version) == (False, 2)
    enabled = await users.enable(user.id)
    assert (enabled.is_active, enabled.security_version) == (True, 2)
    with pytest.raises(ConflictException):
        await users.disable(user.id, by=user.id)


async def test_page_is_sorted_from_newest_to_oldest(db, make_user):
    made = [(await make_user()).email for _ in range(5)]
    users = UserService(db)
    first = await users.page(size=3)
    second = await users.page(size=3, cursor=first.next_cursor)
    assert [user.email for user in first.items + second.items] == made[::-1]
    assert second.next_cursor is None


async def test_create_makes_a_verified_user_without_a_password(db):
    user = await UserService(db).create("ada@example.com", None, verified=True)
    assert (user.hashed_password, user.password_changed_at, user.email_verified) == (None, None, True)


async def test_find_ignores_the_case_of_the_address(db, user):
    service = UserService(db)
    for lock in (False, True):
        found = await service.find("USER@Example.com", lock=lock)
        assert found is not None
        assert found.id == user.id
    assert await service.find("nobody@example.com") is None


async def test_take_over_voids_an_unverified_account(db, user, events):
    user = await db.merge(user)
    await UserService(db).take_over(user)
    await db.commit()
    assert (user.hashed_password, user.security_version, user.email_verified) == (None, 2, True)
    assert events == [AccountTakenOver(user_id=user.id)]


async def test_take_over_leaves_a_verified_account_unchanged(db, user, events):
    user = await db.merge(user)
    user.email_verified_at = utcnow()
    await UserService(db).take_over(user)
    await db.commit()
    assert user.hashed_password is not None
    assert user.security_version == 1
    assert events == []


async def test_signup_verified_creates_an_account_unless_signup_is_closed(kit, db, events):
    user = await AuthService(db).signup_verified("ada@example.com")
    await db.commit()
    assert user.email_verified
    assert [type(event) for event in events] == [UserCreated, UserSignedUp]
    closed = kit.settings.auth.model_copy(update={"signup_mode": "closed"})
    kit.context.settings = kit.settings.model_copy(update={"auth": closed})
    with pytest.raises(SignupClosedException):
        await AuthService(db).signup_verified("bob@example.com")
