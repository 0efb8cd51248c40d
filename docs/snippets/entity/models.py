class Applause(BaseTableModel):
    """A reader applauded a post. There is one row for each reader and post."""

    __table_args__ = (UniqueConstraint("post_id", "reader_id"),)

    post_id: Mapped[UUID] = mapped_column(ForeignKey("post.id", ondelete="CASCADE"))
    reader_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
