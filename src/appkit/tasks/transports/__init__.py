"""Transports: parses `TASKS_BROKER_URL`, and finds the Taskiq broker for each scheme except `db://`."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from taskiq import AsyncBroker

from appkit.core.settings import Settings
from appkit.exceptions import AppKitError

if TYPE_CHECKING:
    from appkit.plugins.manager import PluginManager

Connect = Callable[[Settings, str], AsyncBroker]
"""Makes a Taskiq broker, not started yet, from the app's settings and a queue's name."""

_EXTRAS: Final = {
    "redis": "redis",
    "rediss": "redis",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "nats": "nats",
    "tls": "nats",
    "memory": "memory",
}
"""The module, and the extra of the same name, for each scheme."""


def find_transport(settings: Settings, plugins: "PluginManager | None" = None) -> Connect:
    """The transport for the scheme of `TASKS_BROKER_URL`. A plugin's scheme takes precedence over appkit's.

    Raises:
        AppKitError: When the scheme is unknown, or its extra is not installed.
    """
    scheme = urlsplit(settings.tasks.broker_url).scheme
    own: dict[str, Connect] = dict(reversed(plugins.collect("register_brokers"))) if plugins else {}
    if scheme in own:
        return own[scheme]
    if scheme in {"postgres", "postgresql", "sqlite"}:
        raise AppKitError(
            f"TASKS_BROKER_URL starts with {scheme!r}. For tasks in the app's own database, set it to db://."
        )
    if scheme not in _EXTRAS:
        known = ", ".join(f"{each}://" for each in ["db", *_EXTRAS, *own])
        raise AppKitError(f"TASKS_BROKER_URL has the unknown scheme {scheme!r}. Use one of these: {known}.")
    extra = _EXTRAS[scheme]
    try:
        module: Any = import_module(f"{__name__}.{extra}")
    except ImportError as exc:
        raise AppKitError(f"{scheme}:// needs an extra. Install it: pip install 'fastapi-appkit[{extra}]'.") from exc
    connect: Connect = module.connect
    return connect


class Address(NamedTuple):
    """The server and name of a queue."""

    url: str
    """The URL without appkit's own options."""
    topic: str
    """The queue's name on the server."""


def parse_address(settings: Settings, queue: str, *client_options: str) -> Address:
    """Parse a broker's URL. Its option `queue` replaces the prefix `<APP_NAME>:tasks` of the queues' names.

    Args:
        settings: The app's settings.
        queue: The name of one of its queues.
        client_options: Options that are passed on to the client.

    Raises:
        AppKitError: When the URL has other options.
    """
    url = urlsplit(settings.tasks.broker_url)
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    prefix = options.pop("queue", None) or f"{settings.app_name}:tasks"
    if unknown := options.keys() - {*client_options}:
        known = ", ".join(["queue", *client_options])
        raise AppKitError(
            f"TASKS_BROKER_URL has the unknown option {min(unknown)!r}. Options of {url.scheme}:// URLs: {known}."
        )
    return Address(url._replace(query=urlencode(options)).geturl(), f"{prefix}:{queue}")
