class ApplauseSchema(Schema):
    """The number of readers who applauded a post."""

    count: int
