"""The plugin roles, on both databases."""

import anyio
import pytest
from fastapi import APIRouter, Depends
from typer import Typer
from typer.testing import CliRunner

from appkit import Principal, hookimpl
from appkit.contrib import roles
from appkit.contrib.roles.service import (
    PermissionMissingException,
    RoleDefined,
    RoleGranted,
    RoleRemoved,
    RoleService,
    RoleWithdrawn,
)
from appkit.exceptions import (
    ForbiddenException,
    NotFoundException,
    ScopeMissingException,
    UnauthorizedException,
    UnprocessableException,
)
from appkit.kit import AppKit
from appkit.service.users import UserService
from appkit.testing.kits import rebuilt

router = APIRouter(prefix="/probe")


@router.post("/publish", dependencies=[Depends(roles.require_permission("posts:publish"))])
async def publish() -> str:
    return "published"


class Keys:
    """Authenticates `Bearer SCOPE USER_ID`."""

    @hookimpl
    def authenticate(self, request):
        _, _, key = request.headers.get("authorization", "").partition(" ")
        scope, _, user_id = key.partition(" ")
        return Principal(user_id=user_id, scopes=frozenset([scope])) if key else None


@pytest.fixture
def kit(settings):
    with rebuilt(AppKit(routers=[router], plugins=[roles, Keys()], discover=False), settings) as kit:
        yield kit


@pytest.fixture
def give(admin_client, user):
    async def give(*permissions, name="editor"):
        defined = await admin_client.put(f"/api/roles/{name}", json={"permissions": permissions})
        assert defined.json() == {"name": name, "permissions": sorted(permissions)}
        assert (await admin_client.put(f"/api/users/{user.id}/roles/{name}")).status_code == 204

    return give


@pytest.mark.parametrize("permission", ["posts:publish", "posts:*", "*"])
async def test_role_grants_its_permissions(give, auth_client, permission, assert_error):
    assert_error(await auth_client.post("/api/probe/publish"), PermissionMissingException)
    await give("users:read", permission)
    assert (await auth_client.post("/api/probe/publish")).json() == "published"


@pytest.mark.parametrize("permission", ["posts:publish:now", "posts:read", "post:*", "posts:publish:*"])
async def test_role_grants_no_other_permissions(give, auth_client, permission, assert_error):
    await give(permission)
    assert_error(await auth_client.post("/api/probe/publish"), PermissionMissingException)


async def test_superusers_need_no_role_and_others_must_sign_in(admin_client, client, assert_error):
    assert (await admin_client.post("/api/probe/publish")).status_code == 200
    assert_error(await client.post("/api/probe/publish"), UnauthorizedException)


async def test_api_key_needs_the_permission_among_its_scopes(give, client, user, assert_error):
    right, wrong = ({"Authorization": f"Bearer posts:{scope} {user.id}"} for scope in ("publish", "read"))
    assert_error(await client.post("/api/probe/publish", headers=right), PermissionMissingException)
    await give("posts:*")
    assert (await client.post("/api/probe/publish", headers=right)).status_code == 200
    assert_error(await client.post("/api/probe/publish", headers=wrong), ScopeMissingException)


async def test_withdrawn_and_removed_roles_end_immediately(give, admin_client, auth_client, user, events, assert_error):
    await give("posts:publish")
    await give("posts:publish", name="chief")
    assert [role["name"] for role in (await auth_client.get("/api/auth/me/roles")).json()] == ["chief", "editor"]
    assert (await admin_client.delete(f"/api/users/{user.id}/roles/editor")).status_code == 204
    assert (await auth_client.post("/api/probe/publish")).status_code == 200
    assert (await admin_client.delete("/api/roles/chief")).status_code == 204
    assert_error(await auth_client.post("/api/probe/publish"), PermissionMissingException)
    assert (await admin_client.get(f"/api/users/{user.id}/roles")).json() == []
    assert [role["name"] for role in (await admin_client.get("/api/roles")).json()] == ["editor"]
    happened = [type(event) for event in events if type(event).__module__ == "appkit.contrib.roles.service"]
    assert happened == [RoleDefined, RoleGranted, RoleDefined, RoleGranted, RoleWithdrawn, RoleRemoved]


async def test_only_superusers_manage_roles(give, auth_client, user, assert_error):
    await give("posts:publish", name="chief")
    for method, path in (
        ("GET", "roles"),
        ("PUT", "roles/mine"),
        ("DELETE", "roles/chief"),
        ("GET", f"users/{user.id}/roles"),
        ("PUT", f"users/{user.id}/roles/chief"),
        ("DELETE", f"users/{user.id}/roles/chief"),
    ):
        json = {"permissions": ["*"]} if path == "roles/mine" else None
        assert_error(await auth_client.request(method, f"/api/{path}", json=json), ForbiddenException)


async def test_unknown_role_is_a_404_and_malformed_name_a_422(admin_client, user, assert_error):
    assert_error(await admin_client.put(f"/api/users/{user.id}/roles/nobody"), NotFoundException)
    assert_error(await admin_client.delete("/api/roles/nobody"), NotFoundException)
    for permission in ("Posts", "posts:", "po*", "a b"):
        response = await admin_client.put("/api/roles/editor", json={"permissions": [permission]})
        assert_error(response, UnprocessableException)


async def test_granting_a_role_is_idempotent(give, auth_client, events):
    await give("posts:read")
    await give("posts:read")
    assert len((await auth_client.get("/api/auth/me/roles")).json()) == 1
    assert [type(event) for event in events].count(RoleGranted) == 1
    assert (await auth_client.get("/api/auth/me/export")).json()["roles"] == ["editor"]


def test_roles_command_manages_roles(kit):
    cli = Typer()
    kit.plugins.collect("register_commands", cli=cli, kit=kit)

    async def prepare() -> None:
        await kit.database.create_all()
        async with kit.session() as db:
            await UserService(db).create("ada@example.com", "correct horse battery staple")
        await kit.database.dispose()

    async def may_publish() -> bool:
        async with kit.session() as db:
            ada = await UserService(db).find("ada@example.com")
            assert ada is not None
            allowed = await RoleService(db).allows(ada, "posts:publish")
        await kit.database.dispose()
        return allowed

    def run(*words: str) -> str:
        result = CliRunner().invoke(cli, ["roles", *words], catch_exceptions=True)
        return result.output.strip() if result.exit_code == 0 else str(result.exception)

    anyio.run(prepare)
    assert (
        run("define", "editor", "posts:*", "files:read") == "Role editor now has the permissions files:read, posts:*."
    )
    assert run("define", "editor", "po*").startswith("Invalid name. Write a role as editor")
    assert run("grant", "ada@example.com", "editor") == "ada@example.com now has the role editor."
    assert (
        run("grant", "eve@example.com", "editor")
        == "There is no user eve@example.com. List users with `appkit users list`."
    )
    assert anyio.run(may_publish)
    assert run("list") == "editor: files:read, posts:*"
    assert run("withdraw", "ada@example.com", "editor") == "ada@example.com no longer has the role editor."
    assert not anyio.run(may_publish)
    assert run("remove", "editor") == "Role editor is deleted."
