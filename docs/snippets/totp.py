"""An app with two-factor authentication by an authenticator app."""

from fastapi import APIRouter, Depends

from appkit import AppKit, require
from appkit.contrib import totp

router = APIRouter()
kit = AppKit(routers=[router], plugins=[totp])


@router.post("/payouts", status_code=201, dependencies=[Depends(require(mfa=True))])
async def pay_out() -> str:
    return "On its way."


app = kit.app
