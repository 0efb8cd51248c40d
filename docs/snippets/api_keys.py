"""An app with API keys for programs."""

from typing import Annotated

from fastapi import APIRouter, Depends

from appkit import AppKit, BaseUser, require
from appkit.contrib import api_keys

router = APIRouter(prefix="/reports")
kit = AppKit(routers=[router], plugins=[api_keys])


@router.get("")
async def list_reports(user: Annotated[BaseUser, Depends(require(scopes=["reports:read"]))]) -> str:
    return f"The reports of {user.email}."


app = kit.app
