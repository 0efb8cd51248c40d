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
PAUSE, POLLS = 0.2, 300  # Seconds between polls; the stream ends after a minute, and reconnecting authenticates again.


@router.post("", status_code=201)
async def request_export(user: CurrentUser, db: DbSession) -> ExportSchema:
    """Request a PDF of all your posts."""
    return ExportSchema.model_validate(await ExportService(db).request(user.id))


@router.get("")
async def list_exports(user: CurrentUser, db: DbSession) -> list[ExportSchema]:
    """List your latest exports."""
    return [ExportSchema.model_validate(export) for export in await ExportService(db).of(user.id)]


@router.get("/events", response_class=EventSourceResponse)
async def follow_exports(user: CurrentUser, request: Request) -> AsyncIterable[list[ExportSchema]]:
    """Stream your latest exports whenever one changes, until none is in progress."""
    database, shown = app_of(request).database, None
    for _ in range(POLLS):
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
    """Get an export and its progress."""
    return ExportSchema.model_validate(await ExportService(db).find(export_id, user.id))


@router.get(
    "/{export_id}/file",
    response_class=Response,
    responses={200: {"content": {"application/pdf": {}}}, **errors(ExportNotFoundException, ExportNotReadyException)},
)
async def download_export(export_id: UUID, user: CurrentUser, db: DbSession) -> Response:
    """Download the PDF."""
    content = await ExportService(db).file(export_id, user.id)
    headers = {"Content-Disposition": 'attachment; filename="collected-posts.pdf"'}
    return Response(content, media_type="application/pdf", headers=headers)


@router.post("/{export_id}/cancel", responses=errors(ExportNotFoundException))
async def cancel_export(export_id: UUID, user: CurrentUser, db: DbSession) -> ExportSchema:
    """Cancel an export, unless it has ended."""
    return ExportSchema.model_validate(await ExportService(db).cancel(export_id, user.id))
