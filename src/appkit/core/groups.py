"""Settings groups of plugins. They are added to the app's settings, and read from the same sources."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError, create_model
from pydantic_settings import BaseSettings

from appkit.core.environment import name_variables
from appkit.core.settings import Settings, SettingsGroup, describe_errors
from appkit.exceptions import AppKitError

SettingsT = TypeVar("SettingsT", bound=Settings)


def add_groups(settings: SettingsT, groups: Mapping[str, type[SettingsGroup]]) -> SettingsT:
    """Return the settings with more groups, by name. A group that the settings already have is not changed.

    Raises:
        AppKitError: When another field has the name, or the value of a variable is invalid.
    """
    new = {name: group for name, group in groups.items() if not _has(settings, name, group)}
    if not new:
        return settings
    fields: dict[str, Any] = {name: (group, ...) for name, group in new.items()}
    model = create_model("PluginSettings", __base__=_Groups, **fields)
    model.model_config |= type(settings).model_config
    try:
        values = model(**{name: {} for name in new})
    except ValidationError as exc:
        raise AppKitError("\n".join(describe_errors(name_variables(model, exc)))) from None
    extended = create_model(type(settings).__name__, __base__=type(settings), **fields)
    return extended.model_construct(settings.model_fields_set, **dict(settings), **dict(values))


class _Groups(BaseSettings):
    """Settings of groups only. They are read from the sources of the app's settings."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *args: Any, **sources: Any
    ) -> tuple[Any, ...]:
        return Settings.settings_customise_sources(settings_cls, *args, **sources)


def _has(settings: Settings, name: str, group: type[SettingsGroup]) -> bool:
    if name not in type(settings).model_fields:
        return False
    if not isinstance(getattr(settings, name), group):
        raise AppKitError(f"The settings have a field {name!r} already. Register {group.__name__} by another name.")
    return True
