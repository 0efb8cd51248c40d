"""Hooks of the tasks: more tasks, observers of events, and more brokers."""

# A specification has no body.
# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from appkit.plugins.markers import hookspec, provisional

if TYPE_CHECKING:
    from taskiq import AsyncBroker

    from appkit.core.settings import Settings
    from appkit.domain.events import Event
    from appkit.plugins.manager import PluginManager
    from appkit.tasks.router import TaskRouter


class Kit(Protocol):
    """The part of the plugins' `AppKit` that this layer knows."""

    @property
    def settings(self) -> Settings:
        """The app's settings."""

    @property
    def plugins(self) -> PluginManager:
        """The app's plugins."""


class BrokerScheme(NamedTuple):
    """A scheme for `TASKS_BROKER_URL`, and the Taskiq broker that it stands for."""

    scheme: str
    connect: Callable[[Settings, str], AsyncBroker]
    """Makes a Taskiq broker, not yet started, for the app's settings and the name of one of its queues."""


@hookspec
def register_tasks() -> list[TaskRouter]:
    """Add background tasks, schedules and subscriptions to events. Called when the broker is built.

    Example:
        ```python
        @hookimpl
        def register_tasks():
            return [tasks]
        ```
    """


@hookspec
@provisional
def register_brokers() -> list[BrokerScheme]:
    """Add schemes for `TASKS_BROKER_URL`; a plugin's wins over appkit's. Called when the broker is built.

    Any Taskiq broker will do, and no task is lost with it: its messages only wake workers. A row that no worker claims
    within `TASKS_LEASE` is published again. So let the broker drop old messages rather than keep them for ever.

    Example:
        ```python
        def connect(settings, queue):
            return KafkaBroker(settings.tasks.broker_url, topic=queue)


        @hookimpl
        def register_brokers():
            return [BrokerScheme("kafka", connect)]
        ```
    """


@hookspec
async def on_event(kit: Kit, event: Event) -> None:
    """Observe every event, of every class, once its transaction has committed.

    Each plugin is called in a task of its own: at least once, and again when it fails. With `PLUGINS_STRICT` a bug in a
    plugin makes the task dead at once. A temporary failure, such as a database that is down, is still retried.

    Args:
        kit: The app's `AppKit`.
        event: The event.

    Example:
        ```python
        @hookimpl
        async def on_event(kit, event):
            async with kit.session() as db:
                db.add(AuditEntry(what=repr(event)))
        ```
    """
