"""What an auditor asks about is an event, which is committed even where the request is refused; on both databases."""

from typing import ClassVar

import pytest

from appkit import hookimpl
from appkit.domain.events import PasswordRefused, SigninFailed, UserCreated
from appkit.service.hashing import Security
from appkit.testing.plugin import PASSWORD


@pytest.fixture
def only(events):
    def only(kind):
        return [event for event in events if isinstance(event, kind)]

    return only


async def test_failed_signin_event_has_user_and_ip(client, kit, user, make_user, only):
    disabled = await make_user()
    async with kit.session() as db:
        (await db.get_one(kit.context.user_model, disabled.id)).is_active = False
    for email, password in ((user.email, "wrong"), ("nobody@example.com", PASSWORD), (disabled.email, PASSWORD)):
        await client.post("/api/auth/signin", json={"email": email, "password": password})
    ids = [event.user_id for event in only(SigninFailed)]
    assert ids == [user.id, None, disabled.id]
    assert {event.ip for event in only(SigninFailed)} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("path", "body"), [("reauth", {"password": "wrong"}), ("password/change", {"current": "wrong", "new": "x" * 20})]
)
async def test_refused_password_emits_an_event(auth_client, kit, user, only, path, body):
    await auth_client.post(f"/api/auth/{path}", json=body)
    session_id = Security.of(kit.context).tokens.read_access(auth_client.cookies["appkit_at"]).session_id
    assert only(PasswordRefused) == [PasswordRefused(user_id=user.id, session_id=session_id)]


async def test_every_new_account_emits_user_created(client, make_user, only):
    await client.post("/api/auth/signup", json={"email": "new@example.com", "password": PASSWORD})
    await make_user(superuser=True)
    assert [event.is_superuser for event in only(UserCreated)] == [False, True]


async def test_events_of_refused_requests_reach_plugins(client, kit, user, tasks):
    class Trail:
        seen: ClassVar[list[str]] = []

        @hookimpl
        async def on_event(self, event):
            self.seen.append(type(event).__name__)

    kit.plugins.register(trail := Trail())
    await client.post("/api/auth/signin", json={"email": user.email, "password": "wrong"})
    await tasks.run()
    assert trail.seen == ["SigninFailed"]
