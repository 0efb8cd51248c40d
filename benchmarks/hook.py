"""Soft deletion, turned on and off for statements on models that have none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.orm import Session

from appkit import BaseTableModel
from appkit.repository import mixins
from appkit.repository.mixins import SoftDelete


@contextmanager
def soft_deletion() -> Iterator[Callable[[bool], None]]:
    """Map a model with `SoftDelete`, which is what brings the hook; returns what turns the hook on and off."""
    if "parcel" not in BaseTableModel.metadata.tables:
        type("Parcel", (SoftDelete, BaseTableModel), {})
    hook = mixins._leave_out_deleted  # noqa: SLF001 - there is no other way to turn it off

    def turn(on: bool) -> None:  # noqa: FBT001 - it is what it is about
        if event.contains(Session, "do_orm_execute", hook) is not on:
            (event.listen if on else event.remove)(Session, "do_orm_execute", hook)

    yield turn
    turn(False)  # noqa: FBT003 - as above
