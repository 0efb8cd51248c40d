"""The plain User of apps that define none. Import it only when needed, because that creates its table."""

from appkit.repository.user import BaseUser


class User(BaseUser):
    """A user account."""
