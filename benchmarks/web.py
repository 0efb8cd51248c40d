"""One route, `GET /{id}`, written as each library's documentation does, and called without a server or a client."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from advanced_alchemy.extensions.fastapi import AdvancedAlchemy, AsyncSessionConfig, SQLAlchemyAsyncConfig
from contenders import ALCHEMY, FASTCRUD, OURS, PLAIN, AlchemyService, Book, BookSchema, Contest, Service
from fastapi import APIRouter, Depends, FastAPI
from measure import Operation
from sqlalchemy.ext.asyncio import AsyncSession

from appkit import AppKit, DbSession

INLINE, WHOLE = f"{PLAIN}, inline session", f"{OURS}, with all its middleware"


def requests(kit: AppKit, contest: Contest) -> dict[str, Operation]:
    """A request for the row, to each library's app."""
    path = f"/{contest.ident}"
    return {
        INLINE: _ask(_inline(contest), path),
        OURS: _ask(_ours(kit), path),
        WHOLE: _ask(_whole(kit), path),
        ALCHEMY: _ask(_alchemy(contest), path),
        FASTCRUD: _ask(_fastcrud(contest), path),
    }


def _inline(contest: Contest) -> FastAPI:
    app = FastAPI()

    @app.get("/{ident}")
    async def read(ident: UUID) -> BookSchema:
        async with contest.plain_reader() as db:
            return BookSchema.model_validate(await db.get_one(Book, ident))

    return app


def _router() -> APIRouter:
    router = APIRouter()

    @router.get("/{ident}")
    async def read(ident: UUID, db: DbSession) -> BookSchema:
        return BookSchema.model_validate(await Service(db).get(ident))

    return router


def _ours(kit: AppKit) -> FastAPI:
    """Only a session and a service, without appkit's middleware, because the others have none."""
    app = FastAPI()
    app.state.appkit = kit.context
    app.include_router(_router())
    return app


def _whole(kit: AppKit) -> FastAPI:
    app = FastAPI()
    kit.install(app)
    app.include_router(_router())
    return app


def _alchemy(contest: Contest) -> FastAPI:
    app = FastAPI()
    config = SQLAlchemyAsyncConfig(
        engine_instance=contest.database.readers,
        session_config=AsyncSessionConfig(expire_on_commit=False),
        commit_mode="autocommit",
    )
    alchemy = AdvancedAlchemy(config=config, app=app)

    @app.get("/{ident}")
    async def read(
        ident: UUID, service: Annotated[AlchemyService, Depends(alchemy.provide_service(AlchemyService))]
    ) -> BookSchema:
        return BookSchema.model_validate(await service.get(ident))

    return app


def _fastcrud(contest: Contest) -> FastAPI:
    app = FastAPI()

    async def session() -> AsyncIterator[AsyncSession]:
        async with contest.plain_reader() as db:
            yield db

    @app.get("/{ident}")
    async def read(ident: UUID, db: Annotated[AsyncSession, Depends(session)]) -> BookSchema:
        return BookSchema.model_validate(await contest.fast.get(db, id=ident))

    return app


def _ask(app: FastAPI, path: str) -> Operation:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message.get("status", 200) != 200:  # noqa: PLR2004 - a status code
            raise RuntimeError(f"{path} was answered with {message['status']}.")

    async def ask() -> None:
        await app(dict(scope), receive, send)

    return ask
