"""The task that delivers an event to the `on_event()` of one plugin. A failure affects no other plugin."""

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from appkit.domain.events import find_event
from appkit.exceptions import APIException, AppKitError
from appkit.service.base import ON_EVENT
from appkit.tasks.outcomes import TaskSignal
from appkit.tasks.router import TaskRouter

if TYPE_CHECKING:
    from appkit.tasks.hookspecs import Kit


class PluginFailedError(AppKitError):
    """A plugin's `on_event()` raised an exception, and with `PLUGINS_STRICT` the task is not retried."""

    retryable = False


def observer_tasks(kit: "Kit") -> TaskRouter:
    """Make a router with the task that delivers events to this kit's plugins."""
    router = TaskRouter()

    @router.task(name=ON_EVENT.name)
    async def on_event(plugin: str, name: str, fields: dict[str, Any]) -> None:
        event = find_event(name).model_validate_json(to_json(fields))
        try:
            await kit.plugins.notify_one(plugin, "on_event", kit=kit, event=event)
        except (APIException, TaskSignal):  # These exceptions decide whether the task is retried.
            raise
        except Exception as exc:
            if not kit.settings.plugins.strict:
                raise
            raise PluginFailedError(f"Plugin {plugin!r} failed in on_event(): {type(exc).__name__}: {exc}") from exc

    return router
