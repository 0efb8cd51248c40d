"""Plugins that observe events: each is told in a task of its own, so that one that fails holds up no other."""

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from appkit.domain.events import find_event
from appkit.exceptions import APIException, AppKitError
from appkit.service.base import ON_EVENT
from appkit.tasks.outcomes import Wish
from appkit.tasks.router import TaskRouter

if TYPE_CHECKING:
    from appkit.tasks.hookspecs import Kit


class PluginFailedError(AppKitError):
    """A plugin has a bug in `on_event()`, which another attempt would not cure."""

    retryable = False


def observer_tasks(kit: "Kit") -> TaskRouter:
    """The task behind `on_event`, for this kit's plugins."""
    router = TaskRouter()

    @router.task(name=ON_EVENT.name)
    async def on_event(plugin: str, name: str, fields: dict[str, Any]) -> None:
        event = find_event(name).model_validate_json(to_json(fields))
        try:
            await kit.plugins.notify_one(plugin, "on_event", kit=kit, event=event)
        except (APIException, Wish):  # The database that is away, say: these know themselves whether to try again.
            raise
        except Exception as exc:
            if not kit.settings.plugins.strict:
                raise
            raise PluginFailedError(f"Plugin {plugin!r} failed in on_event(): {type(exc).__name__}: {exc}") from exc

    return router
