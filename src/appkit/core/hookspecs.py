"""Hooks of the core: settings and error reporting."""

# A specification has no body.
# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from appkit.plugins.markers import hookspec

if TYPE_CHECKING:
    from appkit.core.settings import SettingsGroup


@hookspec
def register_settings() -> Mapping[str, type[SettingsGroup]]:
    """Add groups of settings. The name of a group is the word that its variables start with.

    The hook is called when the kit is first used. An invalid value stops the start with a message that names the
    variable. `settings.group(AuditSettings)` returns the group, and `appkit settings` lists its variables.

    Example:
        ```python
        class AuditSettings(SettingsGroup):
            keep_days: int = 90  # AUDIT_KEEP_DAYS


        @hookimpl
        def register_settings():
            return {"audit": AuditSettings}
        ```
    """


@hookspec
async def on_exception(exception: Exception) -> None:
    """Observe an unhandled exception of a route or a task. `current_ids()` returns the ids of the request and the task.

    Example:
        ```python
        @hookimpl
        async def on_exception(exception):
            await pager.alert(repr(exception))
        ```
    """
