"""Exports, under /exports."""

import asyncio
from collections.abc import AsyncIterable
from uuid import UUID

from appkit import CurrentUser, DbSession, app_of, errors
from fastapi import APIRouter, Request, Response
from fastapi.sse import EventSourceResponse

from api.schemas import ExportSchema
from exceptions import ExportNotFoundException, ExportNotReadyException
from service.exports import ACTIVE, ExportService

router = APIRouter(prefix="/exports", tags=["exports"])
PAUSE, LOOKS = 0.2, 300  # Seconds between two looks; after a minute, whoever follows has to prove again who they are.


@router.post("", status_code=201)
async def request_export(user: CurrentUser, db: DbSession) -> ExportSchema:
    """Ask for a PDF of everything one wrote."""
    return ExportSchema.model_validate(await ExportService(db).request(user.id))


@router.get("")
async def list_exports(user: CurrentUser, db: DbSession) -> list[ExportSchema]:
    """One's latest exports."""
    return [ExportSchema.model_validate(export) for export in await ExportService(db).of(user.id)]


@router.get("/events", response_class=EventSourceResponse)
async def follow_exports(user: CurrentUser, request: Request) -> AsyncIterable[list[ExportSchema]]:
    """One's latest exports, again whenever one of them has come further; ends when none is at work."""
    database, shown = app_of(request).database, None
    for _ in range(LOOKS):
        async with database.read_session(primary=True) as db:
            exports = [ExportSchema.model_validate(export) for export in await ExportService(db).of(user.id)]
        if exports != shown:
            yield exports
        if not any(export.state in ACTIVE for export in exports):
            return
        shown = exports
        await asyncio.sleep(PAUSE)


@router.get("/{export_id}", responses=errors(ExportNotFoundException))
async def read_export(export_id: UUID, user: CurrentUser, db: DbSession) -> ExportSchema:
    """How far an export is; ask again while it is queued or running."""
    return ExportSchema.model_validate(await ExportService(db).find(export_id, user.id))


@router.get(
    "/{export_id}/file",
    response_class=Response,
    responses={200: {"content": {"application/pdf": {}}}, **errors(ExportNotFoundException, ExportNotReadyException)},
)
async def download_export(export_id: UUID, user: CurrentUser, db: DbSession) -> Response:
    """The PDF."""
    content = await ExportService(db).file(export_id, user.id)
    headers = {"Content-Disposition": 'attachment; filename="collected-posts.pdf"'}
    return Response(content, media_type="application/pdf", headers=headers)


@router.post("/{export_id}/cancel", responses=errors(ExportNotFoundException))
async def cancel_export(export_id: UUID, user: CurrentUser, db: DbSession) -> ExportSchema:
    """Stop making an export; one that has ended stays as it is."""
    return ExportSchema.model_validate(await ExportService(db).cancel(export_id, user.id))
