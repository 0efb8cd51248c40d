"""Turns soft deletion's event hook on and off, to measure its cost for models without it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from appkit import BaseTableModel
from appkit.repository import mixins
from appkit.repository.mixins import SoftDelete

OURS, EMPTY, NONE = "with the hook", "with an empty hook", "without it"


@contextmanager
def soft_deletion() -> Iterator[Callable[[str], None]]:
    """Map a model with `SoftDelete`, which installs the hook, and yield a function that replaces it.

    An empty hook has a cost too: with any hook, SQLAlchemy prepares each statement twice.
    """
    if "parcel" not in BaseTableModel.metadata.tables:
        type("Parcel", (SoftDelete, BaseTableModel), {})
    hooks: dict[str, Callable[[Any], None]] = {
        OURS: mixins._leave_out_deleted,  # noqa: SLF001 - there is no other way to turn it off
        EMPTY: lambda _: None,
    }

    def turn(to: str) -> None:
        for name, hook in hooks.items():
            if event.contains(Session, "do_orm_execute", hook) is not (name == to):
                (event.listen if name == to else event.remove)(Session, "do_orm_execute", hook)

    yield turn
    turn(NONE)
