"""The app's errors. Codes 01 to 49 of each range are the app's; others belong to appkit and plugins."""

from appkit import ConflictException, ForbiddenException, NotFoundException


class NotYourPostException(ForbiddenException):
    """Only its author may change, publish or delete a post."""

    internal_code = 40201
    detail = "Only its author can do this to a post."


class PostNotFoundException(NotFoundException):
    """There is no such post, or it is somebody else's draft."""

    internal_code = 40401
    detail = "There is no such post."


class ExportNotFoundException(NotFoundException):
    """There is no such export, it is somebody else's, or it has expired."""

    internal_code = 40402
    detail = "There is no such export. Exports are kept for seven days."


class AlreadyPublishedException(ConflictException):
    """The post is already published."""

    internal_code = 40901
    detail = "This post is already published."


class ExportNotReadyException(ConflictException):
    """The file was requested before it was ready."""

    internal_code = 40902
    detail = "This export is not ready yet."


class NotPublishedException(ConflictException):
    """A draft takes no comments."""

    internal_code = 40903
    detail = "Publish this post first: drafts take no comments."
