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
    """The part of `AppKit` that the tasks layer uses."""

    @property
    def settings(self) -> Settings:
        """The app's settings."""

    @property
    def plugins(self) -> PluginManager:
        """The app's plugins."""


class BrokerScheme(NamedTuple):
    """A scheme for `TASKS_BROKER_URL`, with its Taskiq broker."""

    scheme: str
    connect: Callable[[Settings, str], AsyncBroker]
    """Makes a Taskiq broker, not started yet, from the app's settings and a queue's name."""


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
    """Add schemes for `TASKS_BROKER_URL`. A plugin's scheme replaces appkit's. Called when the broker is built.

    Any Taskiq broker can be used, and no task is lost, because messages only wake workers. The broker should drop old
    messages.

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
    """Observe the events of all classes, after the commit of their transactions.

    A separate task calls each plugin at least once, and retries a plugin that fails. With `PLUGINS_STRICT`, the task is
    dead after an unexpected exception. A temporary failure, such as a database that is down, is still retried.

    Example:
        ```python
        @hookimpl
        async def on_event(kit, event):
            async with kit.session() as db:
                db.add(AuditEntry(what=repr(event)))
        ```
    """
