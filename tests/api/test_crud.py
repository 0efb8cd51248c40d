"""crud_router: five routes, with the schemas that they are given and no others."""

from typing import Annotated, ClassVar
from uuid import UUID

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from httpx2 import AsyncClient
from sqlalchemy.orm import Mapped, mapped_column

from appkit.api.crud import crud_router
from appkit.api.dependencies import get_user
from appkit.api.schemas import InputSchema, Schema
from appkit.exceptions import AppKitError
from appkit.kit import AppKit
from appkit.repository.base import Base, BaseTableModel, IntBaseTableModel
from appkit.repository.filters import CursorQuery, PageQuery, Where
from appkit.repository.mixins import Authored, SoftDelete, Versioned
from appkit.service.crud import CRUDService


class Gadget(SoftDelete, Versioned, Authored, BaseTableModel):
    __table_args__ = (SoftDelete.unique("name"),)

    name: Mapped[str]
    cost: Mapped[int] = mapped_column(default=0)


class Ticket(IntBaseTableModel):
    title: Mapped[str]


class Pair(Base):
    __tablename__ = "pair"

    left: Mapped[int] = mapped_column(primary_key=True)
    right: Mapped[int] = mapped_column(primary_key=True)


class GadgetSchema(Schema):
    id: UUID
    name: str
    version: int
    created_by: UUID | None


class GadgetCreate(InputSchema):
    name: str
    cost: int = 0


class GadgetUpdate(InputSchema):
    name: str = ""
    version: int | None = None


class GadgetQuery(PageQuery):
    sortable: ClassVar = {"name": Gadget.name}
    default_sort = "name"

    name: Annotated[str | None, Where.contains(Gadget.name)] = None


class GadgetService(CRUDService[Gadget, GadgetCreate, GadgetUpdate]):
    pass


class TicketSchema(Schema):
    id: int
    title: str


class TicketCreate(InputSchema):
    title: str


TicketService = CRUDService[Ticket, TicketCreate, TicketCreate]


@pytest.fixture
def gadgets() -> APIRouter:
    return crud_router(
        GadgetService,
        read=GadgetSchema,
        create=GadgetCreate,
        update=GadgetUpdate,
        query=GadgetQuery,
        prefix="/gadgets",
    )


@pytest.fixture
async def browser(kit: AppKit, app: FastAPI, gadgets: APIRouter, client: AsyncClient) -> AsyncClient:
    app.include_router(gadgets, prefix="/api")
    return client


async def test_crud_router_serves_all_five_routes(browser):
    made = await browser.post("/api/gadgets", json={"name": "lamp"})
    assert made.status_code == 201
    gadget = made.json()
    assert gadget == {"id": gadget["id"], "name": "lamp", "version": 1, "created_by": None}
    where = f"/api/gadgets/{gadget['id']}"
    assert (await browser.get(where)).json() == gadget
    await browser.post("/api/gadgets", json={"name": "clock", "cost": 3})
    page = (await browser.get("/api/gadgets")).json()
    assert [each["name"] for each in page.pop("items")] == ["clock", "lamp"]
    assert page == {"page": 1, "size": 20, "total": 2, "pages": 1, "has_next": False}
    changed = await browser.patch(where, json={"name": "lantern"})
    assert changed.json() == {**gadget, "name": "lantern", "version": 2}
    assert (await browser.get("/api/gadgets?name=LANT")).json()["total"] == 1
    gone = await browser.delete(where)
    assert (gone.status_code, gone.content) == (204, b"")
    for answer in (await browser.get(where), await browser.patch(where, json={}), await browser.delete(where)):
        assert (answer.status_code, answer.json()["internal_code"]) == (404, 40400)


async def test_created_row_is_visible_to_the_next_request(browser):
    for n in range(3):
        made = (await browser.post("/api/gadgets", json={"name": str(n)})).json()
        assert (await browser.get(f"/api/gadgets/{made['id']}")).status_code == 200


async def test_conflicts_have_different_codes(browser):
    gadget = (await browser.post("/api/gadgets", json={"name": "lamp"})).json()
    taken = await browser.post("/api/gadgets", json={"name": "lamp"})
    assert (taken.status_code, taken.json()["internal_code"]) == (409, 40951)
    assert [error["field"] for error in taken.json()["errors"]] == ["name"]
    where = f"/api/gadgets/{gadget['id']}"
    assert (await browser.patch(where, json={"name": "lantern", "version": 1})).status_code == 200
    stale = await browser.patch(where, json={"name": "candle", "version": 1})
    assert (stale.status_code, stale.json()["internal_code"]) == (409, 40952)


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "", {"name": "x", "deleted_at": None}, "deleted_at"),
        ("POST", "", {}, "name"),
        ("PATCH", f"/{UUID(int=7)}", {"id": str(UUID(int=8))}, "id"),
        ("GET", "/nonsense", None, "id"),
        ("GET", "?sort=cost", None, "sort"),
        ("GET", "?cursor=x", None, "cursor"),
    ],
)
async def test_unknown_fields_are_refused(browser, method, path, body, field):
    answer = await browser.request(method, f"/api/gadgets{path}", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_created_row_has_its_author(app, gadgets, auth_client, user):
    app.include_router(gadgets, prefix="/api", dependencies=[Depends(get_user)])
    made = await auth_client.post("/api/gadgets", json={"name": "lamp"})
    assert made.json()["created_by"] == str(user.id)


async def test_dependencies_guard_all_routes(app, client):
    router = crud_router(
        TicketService,
        read=TicketSchema,
        create=TicketCreate,
        update=TicketCreate,
        query=CursorQuery,
        prefix="/admin/tickets",
        dependencies=[Depends(get_user)],
    )
    app.include_router(router, prefix="/api")
    for method, path in (("GET", ""), ("POST", ""), ("GET", "/1"), ("PATCH", "/1"), ("DELETE", "/1")):
        answer = await client.request(method, f"/api/admin/tickets{path}", json={"title": "x"})
        assert answer.status_code == 401, (method, path)


async def test_page_numbers_and_cursors_both_work(app, client):
    router = crud_router(
        TicketService,
        read=TicketSchema,
        create=TicketCreate,
        query=CursorQuery,
        prefix="/tickets",
        actions=("list", "get", "create"),
    )
    app.include_router(router, prefix="/api")
    for title in "abc":
        assert (await client.post("/api/tickets", json={"title": title})).status_code == 201
    assert (await client.get("/api/tickets/2")).json() == {"id": 2, "title": "b"}
    first = (await client.get("/api/tickets?size=2")).json()
    assert [each["id"] for each in first["items"]] == [1, 2]
    second = (await client.get("/api/tickets", params={"size": 2, "cursor": first["next_cursor"]})).json()
    assert ([each["id"] for each in second["items"]], second["next_cursor"]) == ([3], None)
    methods = {method for route in router.routes if isinstance(route, APIRoute) for method in route.methods or ()}
    assert methods == {"GET", "POST"}
    assert (await client.get(f"/api/tickets/{10**30}")).status_code == 422


async def test_openapi_describes_the_routes(browser):
    document = (await browser.get("/api/openapi.json")).json()
    gadgets, gadget = document["paths"]["/api/gadgets"], document["paths"]["/api/gadgets/{id}"]
    assert set(gadgets) == {"get", "post"}
    assert set(gadget) == {"get", "patch", "delete"}
    assert gadgets["get"]["summary"] == "List Gadgets"
    assert gadgets["get"]["tags"] == ["gadgets"]
    body = gadgets["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/GadgetCreate"}
    (identifier,) = gadget["get"]["parameters"]
    assert (identifier["name"], identifier["schema"]["format"]) == ("id", "uuid")
    examples = gadget["patch"]["responses"]["409"]["content"]["application/problem+json"]["examples"]
    assert set(examples) == {"ConstraintViolatedException", "StaleVersionException"}
    assert "404" in gadget["delete"]["responses"]
    page = gadgets["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert page == {"$ref": "#/components/schemas/Page_GadgetSchema_"}


def test_action_requires_its_schema():
    with pytest.raises(AppKitError, match="crud_router has no schema for 'update'. Pass update="):
        crud_router(TicketService, read=TicketSchema, create=TicketCreate, query=PageQuery, prefix="/tickets")


def test_composite_primary_key_is_refused():
    with pytest.raises(AppKitError, match="Pair has a composite primary key"):
        crud_router(
            CRUDService[Pair, TicketCreate, TicketCreate],
            read=TicketSchema,
            query=PageQuery,
            prefix="/pairs",
            actions=["list"],
        )
