"""What carries the news of a task to a worker: a Taskiq broker for each scheme of `TASKS_BROKER_URL` but `db://`."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from taskiq import AsyncBroker

from appkit.core.settings import Settings
from appkit.exceptions import AppKitError

if TYPE_CHECKING:
    from appkit.plugins.manager import PluginManager

Connect = Callable[[Settings, str], AsyncBroker]
"""Makes a Taskiq broker, not yet started, for the app's settings and the name of one of its queues."""

_EXTRAS: Final = {
    "redis": "redis",
    "rediss": "redis",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "nats": "nats",
    "tls": "nats",
    "memory": "memory",
}
"""Which module, and which extra, a scheme needs."""


def find_transport(settings: Settings, plugins: "PluginManager | None" = None) -> Connect:
    """What the scheme of `TASKS_BROKER_URL` stands for: a plugin's own before appkit's.

    Raises:
        AppKitError: When there is no such scheme, or what it needs is not installed.
    """
    scheme = urlsplit(settings.tasks.broker_url).scheme
    own: dict[str, Connect] = dict(reversed(plugins.collect("register_brokers"))) if plugins else {}
    if scheme in own:
        return own[scheme]
    if scheme in {"postgres", "postgresql", "sqlite"}:
        raise AppKitError(
            f"TASKS_BROKER_URL starts with {scheme!r}. For tasks in the app's own database, at DATABASE_URL, it is db://."
        )
    if scheme not in _EXTRAS:
        known = ", ".join(f"{each}://" for each in ["db", *_EXTRAS, *own])
        raise AppKitError(f"TASKS_BROKER_URL starts with {scheme!r}. What there is: {known}.")
    extra = _EXTRAS[scheme]
    try:
        module: Any = import_module(f"{__name__}.{extra}")
    except ImportError as exc:
        raise AppKitError(f"{scheme}:// needs more: pip install 'fastapi-appkit[{extra}]'.") from exc
    connect: Connect = module.connect
    return connect
