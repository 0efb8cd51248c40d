"""An app's kit and settings, changed for a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TypeVar

from pydantic import SecretStr

from appkit.core.settings import Settings
from appkit.kit import AppKit
from appkit.tasks.router import TaskRouter

SettingsT = TypeVar("SettingsT", bound=Settings)

_VALUES = {
    "auth": {"secret_keys": (SecretStr("for tests alone, where anybody may read it"),)},
    "frontend": {"dist": None},
    "limits": {"enabled": False},
    "mail": {"url": "memory://"},
    "plugins": {"strict": True},
    "redis": {"url": None},
    "sentry": {"enabled": False},
    "tasks": {"broker_url": "db://", "embedded": False},
}


def settings_for_tests(settings: SettingsT, database_url: str) -> SettingsT:
    """The app's settings, changed for a test. Mails stay in memory. No worker runs, and no other server is used.

    `database_url` is the URL of an empty database. Migrations are turned off.
    """
    database = {"url": database_url, "replica_urls": (), "migrate": "off"}
    groups = {
        name: getattr(settings, name).model_copy(update=values)
        for name, values in {**_VALUES, "database": database}.items()
    }
    return settings.model_copy(update={**groups, "environment": "test"})


@contextmanager
def rebuilt(kit: AppKit, settings: Settings) -> Iterator[AppKit]:
    """Give the kit these settings until the block ends. Its database, broker, plugins and app are built anew.

    The kit stays the same object, because tasks and routes may refer to it.
    """
    before = dict(vars(kit))
    routers: list[TaskRouter] = before.get("_task_routers", [])
    brokers = {task: set(task.brokers) for router in routers for task in router.tasks}
    for name in before:
        if isinstance(getattr(type(kit), name, None), cached_property):
            del vars(kit)[name]
    for task in brokers:
        task.brokers.clear()  # A task with two brokers fails.
    kit._settings = settings
    try:
        yield kit
    finally:
        if (broker := vars(kit).get("broker")) is not None:
            for router in kit._task_routers:
                for task in router.tasks:
                    task.brokers.discard(broker)
        vars(kit).clear()
        vars(kit).update(before)
        for task, previous in brokers.items():
            task.brokers.clear()
            task.brokers.update(previous)
