"""Rate limits by IP address, by user, and for failed attempts."""

from uuid import UUID

from fastapi import APIRouter, Depends, Request

from appkit import (
    AppKit,
    BadRequestException,
    CurrentUser,
    Schema,
    TooManyRequestsException,
    client_address,
    errors,
    limit,
)

router = APIRouter()
kit = AppKit(routers=[router])


@router.get("/search", dependencies=[Depends(limit("30/minute"))], responses=errors(TooManyRequestsException))
async def search(q: str) -> list[str]:
    return [word for word in ("apple", "pear", "plum") if q in word]


async def by_user(user: CurrentUser) -> UUID:
    return user.id


@router.post("/exports", dependencies=[Depends(limit("5/hour", key=by_user))])
async def export() -> str:
    return "It will come by mail."


class WrongVoucherException(BadRequestException):
    """There is no such voucher."""

    internal_code = 40001
    detail = "There is no such voucher."


class VoucherSchema(Schema):
    code: str


@router.post("/vouchers")
async def redeem(payload: VoucherSchema, request: Request) -> str:
    wrong_tries = ("3/10 minutes", "voucher", client_address(request))
    await kit.limiter.hit(*wrong_tries)
    if payload.code != "SPRING":
        raise WrongVoucherException
    await kit.limiter.clear(*wrong_tries)
    return "Ten per cent off."


app = kit.app
