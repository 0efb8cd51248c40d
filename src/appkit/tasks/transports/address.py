"""What `TASKS_BROKER_URL` says: where the server is, and what the queues there are called."""

from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from appkit.core.settings import Settings
from appkit.exceptions import AppKitError


class Address(NamedTuple):
    """Where a queue is."""

    url: str
    """The URL without what is ours."""
    topic: str
    """What to call the queue there."""


def parse_address(settings: Settings, queue: str, *client_options: str) -> Address:
    """Take a broker's URL apart. Its option `queue` replaces `<APP_NAME>:tasks`, which the names of queues start with.

    Args:
        settings: The app's settings.
        queue: The name of one of its queues.
        client_options: Options that the client understands.

    Raises:
        AppKitError: When there are other options.
    """
    url = urlsplit(settings.tasks.broker_url)
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    prefix = options.pop("queue", None) or f"{settings.app_name}:tasks"
    if unknown := options.keys() - {*client_options}:
        known = ", ".join(["queue", *client_options])
        raise AppKitError(
            f"TASKS_BROKER_URL has the option {min(unknown)!r}. What a {url.scheme}:// URL may have: {known}."
        )
    return Address(url._replace(query=urlencode(options)).geturl(), f"{prefix}:{queue}")
