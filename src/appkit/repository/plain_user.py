"""The plain `User`, for apps without their own. Import this module only when needed, because that creates the table."""

from appkit.repository.user import BaseUser


class User(BaseUser):
    """A user account."""
