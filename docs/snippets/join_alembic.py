"""An app that is older than its kit: its tables stand on a base class of their own."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from appkit import AppKit, BaseTableModel


class Base(DeclarativeBase):
    metadata = BaseTableModel.metadata  # one metadata, and so one history


class Shelf(Base):
    __tablename__ = "shelves"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Book(BaseTableModel):
    title: Mapped[str]
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelves.id"))


kit = AppKit()
app = kit.app
