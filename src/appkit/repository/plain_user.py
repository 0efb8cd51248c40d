"""The plain User of apps that define none; imported only when one is needed, for its table then exists."""

from appkit.repository.user import BaseUser


class User(BaseUser):
    """Somebody who can sign in."""
