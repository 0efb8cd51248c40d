"""crud_router: builds the list, get, create, update and delete routes of a resource."""

from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Path, Query
from fastapi.params import Depends
from pydantic import BaseModel
from sqlalchemy.orm import Mapper, class_mapper

from appkit.api.dependencies import DbSession, ReadSession
from appkit.api.errors import errors
from appkit.exceptions import (
    APIException,
    AppKitError,
    ConstraintViolatedException,
    NotFoundException,
    StaleVersionException,
)
from appkit.repository.base import model_of
from appkit.repository.filters import CursorQuery, PageQuery
from appkit.repository.mixins import Versioned
from appkit.repository.pagination import CursorPage, Page
from appkit.service.crud import CRUDService

CreateT = TypeVar("CreateT", bound=BaseModel)
UpdateT = TypeVar("UpdateT", bound=BaseModel)
Action = Literal["list", "get", "create", "update", "delete"]


def crud_router(
    service: type[CRUDService[Any, CreateT, UpdateT]],
    *,
    read: type[BaseModel],
    create: type[CreateT] | None = None,
    update: type[UpdateT] | None = None,
    query: type[PageQuery] | type[CursorQuery],
    prefix: str,
    dependencies: Sequence[Depends] = (),
    actions: Collection[Action] = ("list", "get", "create", "update", "delete"),
) -> APIRouter:
    """Routes to list, get, create, update (PATCH) and delete the rows of a service's model.

        posts = crud_router(
            PostService, read=PostSchema, create=PostCreate, update=PostUpdate, query=PostQuery, prefix="/posts"
        )

    A new column is exposed only when you add it to a schema. If routes need different `dependencies`, call
    `crud_router` once for each group of `actions`.

    Args:
        read: The schema of a row in a response.
        create: The schema of a row to create.
        update: The schema of changes. Fields that a request leaves out stay unchanged.
        query: The parameters of the list: a `PageQuery` for numbered pages, a `CursorQuery` for keyset pages.
        prefix: The path of the routes, such as `/posts`. The last part of the path is the tag of the routes.
        dependencies: Dependencies of all these routes, for permissions.

    Raises:
        AppKitError: When an action's schema is missing, or the model's primary key is composite.
    """
    model = model_of(service, CRUDService)
    for needed, schema in {"create": create, "update": update}.items():
        if needed in actions and schema is None:
            raise AppKitError(f"crud_router has no schema for {needed!r}. Pass {needed}=, or leave it out of actions=.")

    async def list_rows(query: Any, db: ReadSession) -> Any:
        return await service(db).page(query)

    async def get_row(ident: Any, db: ReadSession) -> Any:
        return await service(db).get(ident)

    async def create_row(data: Any, db: DbSession) -> Any:
        return await service(db).create(data)

    async def update_row(ident: Any, data: Any, db: DbSession) -> Any:
        return await service(db).update(ident, data)

    async def delete_row(ident: Any, db: DbSession) -> None:
        await service(db).delete(ident)

    ident: Any = Annotated[_key_type(model), Path(alias="id")]
    list_rows.__annotations__["query"] = Annotated[query, Query()]
    create_row.__annotations__["data"] = create
    update_row.__annotations__ |= {"data": update, "ident": ident}
    get_row.__annotations__["ident"] = delete_row.__annotations__["ident"] = ident

    page: Any = CursorPage if issubclass(query, CursorQuery) else Page
    stale = [StaleVersionException] if issubclass(model, Versioned) else []
    missing, conflicts = NotFoundException, [ConstraintViolatedException, *stale]
    routes: dict[Action, tuple[str, str, Callable[..., Any], Any, int, list[type[APIException]]]] = {
        "list": ("GET", "", list_rows, page[read], 200, []),
        "get": ("GET", "/{id}", get_row, read, 200, [missing]),
        "create": ("POST", "", create_row, read, 201, [ConstraintViolatedException]),
        "update": ("PATCH", "/{id}", update_row, read, 200, [missing, *conflicts]),
        "delete": ("DELETE", "/{id}", delete_row, None, 204, [missing, *conflicts]),
    }
    name = prefix.rpartition("/")[2]
    router = APIRouter(prefix=prefix, tags=[name], dependencies=dependencies)
    for action, (method, path, endpoint, answer, status, problems) in routes.items():
        if action in actions:
            router.add_api_route(
                path,
                endpoint,
                methods=[method],
                name=f"{action}_{name}",
                response_model=answer,
                status_code=status,
                responses=errors(*problems),
            )
    return router


def _key_type(model: type[Any]) -> Any:
    mapper: Mapper[Any] = class_mapper(model)
    column, *others = mapper.primary_key
    if others:
        raise AppKitError(f"{model.__name__} has a composite primary key. Write its routes yourself.")
    return column.type.python_type
