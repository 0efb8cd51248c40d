"""An app whose routes would commit after they have answered doesn't start."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from sqlalchemy.ext.asyncio import AsyncSession

from appkit.api.dependencies import DbSession, ReadSession, get_session, refuse_late_commits
from appkit.exceptions import AppKitError

LateSession = Annotated[AsyncSession, Depends(get_session)]


async def nothing() -> None:
    """A route that asks for nothing itself."""


async def named_session(db: LateSession) -> AsyncSession:
    return db


async def generator(db: LateSession) -> AsyncIterator[AsyncSession]:
    yield db


async def use_late(db: LateSession) -> None:
    """By an alias of one's own."""


async def use_partial(db: Annotated[AsyncSession, Depends(partial(get_session))]) -> None:
    """By way of a partial."""


async def use_named(db: Annotated[AsyncSession, Depends(named_session)]) -> None:
    """By way of a dependency."""


async def use_generator(db: Annotated[AsyncSession, Depends(generator, scope="function")]) -> None:
    """By way of one that ends in time itself."""


@pytest.mark.parametrize("endpoint", [use_late, use_partial, use_named, use_generator])
def test_route_with_a_late_commit_is_named(endpoint):
    app = FastAPI()
    app.add_api_route("/items/{id}", endpoint, methods=["POST"])
    with pytest.raises(
        AppKitError, match=r'^POST /items/\{id\} would commit its database session after .*scope="function"'
    ):
        refuse_late_commits(app)


def test_a_route_of_a_nested_router_is_named_by_its_whole_path():
    inner, outer, app = APIRouter(prefix="/inner"), APIRouter(prefix="/outer"), FastAPI()
    inner.add_api_route("/late", use_late)
    outer.include_router(inner)
    app.include_router(outer, prefix="/api")
    with pytest.raises(AppKitError, match="^GET /api/outer/inner/late would"):
        refuse_late_commits(app)


@pytest.mark.parametrize("where", ["app", "router", "inclusion", "route"])
def test_dependencies_of_whole_routers_count(where):
    late = [Depends(get_session)]
    app = FastAPI(dependencies=late if where == "app" else [])
    router = APIRouter(dependencies=late if where == "router" else [])
    router.add_api_route("/thing", nothing, dependencies=late if where == "route" else [])
    app.include_router(router, dependencies=late if where == "inclusion" else [])
    with pytest.raises(AppKitError, match="^GET /thing would"):
        refuse_late_commits(app)


def test_overrides_and_websockets_count():
    async def talk(socket: WebSocket, db: LateSession) -> None:
        """Say nothing."""

    async def use_replaced(_: Annotated[None, Depends(nothing)]) -> None:
        """By way of an override."""

    talking, overridden = FastAPI(), FastAPI()
    talking.add_api_websocket_route("/talk", talk)
    overridden.add_api_route("/replaced", use_replaced)
    refuse_late_commits(overridden)
    overridden.dependency_overrides[nothing] = get_session
    for app, route in (talking, "WEBSOCKET /talk"), (overridden, "GET /replaced"):
        with pytest.raises(AppKitError, match=f"^{route} would"):
            refuse_late_commits(app)


def test_sessions_that_commit_in_time_are_accepted():
    async def use(db: DbSession, reader: ReadSession) -> None:
        """As one should."""

    app = FastAPI()
    app.add_api_route("/fine", use)
    app.mount("/elsewhere", FastAPI())
    refuse_late_commits(app)


async def test_app_with_a_late_commit_does_not_start(kit):
    router = APIRouter()
    router.add_api_route("/late", use_late)
    kit._routers = (router,)
    with pytest.raises(AppKitError, match="^GET /api/late would commit"):
        async with kit.app.router.lifespan_context(kit.app):
            pass
