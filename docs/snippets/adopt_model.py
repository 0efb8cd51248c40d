"""Only the base class of tables, with your own engine."""

from sqlalchemy import create_engine
from sqlalchemy.orm import Mapped, Session

from appkit import BaseTableModel


class Book(BaseTableModel):
    title: Mapped[str]


engine = create_engine("sqlite://")
BaseTableModel.metadata.create_all(engine)
with Session(engine) as session:
    session.add(book := Book(title="A book"))
    session.commit()
    print(sorted(BaseTableModel.metadata.tables), book.title, book.created_at.tzinfo)
