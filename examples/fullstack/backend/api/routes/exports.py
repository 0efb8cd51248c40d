"""Exports, under /exports."""

from uuid import UUID

from appkit import CurrentUser, DbSession, errors
from fastapi import APIRouter, Response

from api.schemas import ExportSchema
from exceptions import ExportNotFoundException, ExportNotReadyException
from service.exports import ExportService

router = APIRouter(prefix="/exports", tags=["exports"])


@router.post("", status_code=201)
async def request_export(user: CurrentUser, db: DbSession) -> ExportSchema:
    """Ask for a PDF of everything one wrote."""
    return ExportSchema.model_validate(await ExportService(db).request(user.id))


@router.get("")
async def list_exports(user: CurrentUser, db: DbSession) -> list[ExportSchema]:
    """One's latest exports."""
    return [ExportSchema.model_validate(export) for export in await ExportService(db).of(user.id)]


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
