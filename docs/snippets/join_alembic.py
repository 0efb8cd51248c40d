"""An app with older tables, which have another base class than appkit's."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from appkit import AppKit, BaseTableModel


class Base(DeclarativeBase):
    metadata = BaseTableModel.metadata  # one metadata, so one migration history


class Shelf(Base):
    __tablename__ = "shelves"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Book(BaseTableModel):
    title: Mapped[str]
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelves.id"))


kit = AppKit()
app = kit.app
