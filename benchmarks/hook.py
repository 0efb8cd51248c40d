"""Soft deletion, turned on and off for statements on models that have none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from measure import Operation
from sqlalchemy import event
from sqlalchemy.orm import Session

from appkit import BaseTableModel
from appkit.repository import mixins
from appkit.repository.mixins import SoftDelete

Turned = Callable[..., Operation]


@contextmanager
def mapped() -> Iterator[Turned]:
    """A model with `SoftDelete`, which is what brings the hook; and how to do something with or without it."""

    class Parcel(SoftDelete, BaseTableModel):
        pass

    hook = mixins._leave_out_deleted  # noqa: SLF001 - there is no other way to turn it off

    def turned(operation: Operation, *, on: bool) -> Operation:
        async def turn() -> None:
            if event.contains(Session, "do_orm_execute", hook) is not on:
                (event.listen if on else event.remove)(Session, "do_orm_execute", hook)
            await operation()

        return turn

    yield turned
    BaseTableModel.metadata.remove(Parcel.__table__)  # type: ignore[arg-type]
