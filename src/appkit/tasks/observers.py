"""Plugins that observe events: each is told in a task of its own, so that one that fails holds up no other."""

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from appkit.domain.events import find_event
from appkit.service.base import ON_EVENT
from appkit.tasks.router import TaskRouter

if TYPE_CHECKING:
    from appkit.kit import AppKit


def observer_tasks(kit: "AppKit") -> TaskRouter:
    """The task behind `on_event`, for this kit's plugins."""
    router = TaskRouter()

    @router.task(name=ON_EVENT.name)
    async def on_event(plugin: str, name: str, fields: dict[str, Any]) -> None:
        event = find_event(name).model_validate_json(to_json(fields))
        await kit.plugins.tell(plugin, "on_event", kit=kit, event=event)

    return router
