"""An app with an audit trail of its rows."""

from typing import ClassVar

from fastapi import APIRouter
from sqlalchemy.orm import Mapped

from appkit import AppKit, BaseTableModel, CurrentUser, DbSession
from appkit.contrib import audit
from appkit.contrib.audit import Audited

router = APIRouter(prefix="/invoices")
kit = AppKit(routers=[router], plugins=[audit])


class Invoice(Audited, BaseTableModel):
    audit_hidden: ClassVar = {"remarks"}

    amount: Mapped[int]
    remarks: Mapped[str | None]


@router.post("", status_code=201)
async def add_invoice(amount: int, user: CurrentUser, db: DbSession) -> str:
    invoice = Invoice(amount=amount, remarks="as agreed")
    db.add(invoice)
    await db.flush()
    return str(invoice.id)


app = kit.app
