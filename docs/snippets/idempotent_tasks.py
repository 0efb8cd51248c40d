"""Two idempotent tasks."""

from uuid import UUID

from sqlalchemy.orm import Mapped

from appkit import AppKit, BaseTableModel, TaskContext, TaskSession

kit = AppKit()
charged: dict[str, int] = {}


class Balance(BaseTableModel):
    cents: Mapped[int]


@kit.task
async def book(balance_id: UUID, cents: int, db: TaskSession) -> None:
    balance = await db.get_one(Balance, balance_id, with_for_update=True)
    balance.cents += cents  # Committed in one transaction with the task's outcome.


async def charge_card(cents: int, idempotency_key: str) -> None:
    charged.setdefault(idempotency_key, cents)


@kit.task
async def charge(cents: int, ctx: TaskContext) -> None:
    await charge_card(cents, idempotency_key=ctx.task_id)  # A repeated key charges nothing.
