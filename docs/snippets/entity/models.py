class Applause(BaseTableModel):
    """A reader's applause for a post, at most once."""

    __table_args__ = (UniqueConstraint("post_id", "reader_id"),)

    post_id: Mapped[UUID] = mapped_column(ForeignKey("post.id", ondelete="CASCADE"))
    reader_id: Mapped[UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
