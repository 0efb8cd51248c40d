"""create_broker: makes the Taskiq broker for `TASKS_BROKER_URL`, and register_tasks fills it."""

from collections.abc import Iterable

from appkit.core.settings import Settings
from appkit.exceptions import AppKitError
from appkit.repository.database import Database
from appkit.tasks.outbox_broker import OutboxBroker
from appkit.tasks.publisher import PublishingBroker
from appkit.tasks.router import TaskRouter
from appkit.tasks.transports import find_transport


def create_broker(settings: Settings, *, database: Database | None = None) -> OutboxBroker:
    """Make the Taskiq broker for `TASKS_BROKER_URL`.

    Without a `database`, the broker opens the database at `DATABASE_URL`, and creates the tables of the outbox.

    Raises:
        AppKitError: When the scheme is unknown, or needs an extra that is not installed.
    """
    if settings.tasks.broker_url.startswith("db:"):
        if settings.tasks.broker_url != "db://":
            raise AppKitError(
                "TASKS_BROKER_URL must be exactly db://, which is the database at DATABASE_URL. Remove the rest."
            )
        return OutboxBroker(settings, database)
    context = database.context if database else None
    return PublishingBroker(settings, database, find_transport(settings, context.plugins if context else None))


def register_tasks(broker: OutboxBroker, routers: Iterable[TaskRouter]) -> None:
    """Register the tasks and schedules of these routers with a broker. Several brokers may share a router.

    Raises:
        AppKitError: When two tasks have the same name, a parameter can't be read from JSON, or a cron task has required
            parameters.
    """
    for router in routers:
        for task in router.tasks:
            broker.add_task(task)
        for schedule in router.schedules:
            broker.arguments(schedule.name).check((), {})
            broker.schedules.add(schedule)
