"""The plain `User`, for apps without a user model. Importing this module creates the table."""

from appkit.repository.user import BaseUser


class User(BaseUser):
    """A user account."""
