class ApplauseSchema(Schema):
    """How many people like a post."""

    count: int
