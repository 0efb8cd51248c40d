"""An app in which publishing needs a permission."""

from fastapi import APIRouter, Depends

from appkit import AppKit
from appkit.contrib import roles
from appkit.contrib.roles import require_permission

router = APIRouter(prefix="/posts")
kit = AppKit(routers=[router], plugins=[roles])


@router.post("/publish", dependencies=[Depends(require_permission("posts:publish"))])
async def publish() -> str:
    return "Published."


app = kit.app
