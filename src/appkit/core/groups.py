"""Settings groups of plugins, added to the app's own settings and read from the same sources."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError, create_model
from pydantic_settings import BaseSettings

from appkit.core.environment import name_variables
from appkit.core.settings import Settings, SettingsGroup, describe_errors
from appkit.exceptions import AppKitError

SettingsT = TypeVar("SettingsT", bound=Settings)


def add_groups(settings: SettingsT, groups: Mapping[str, type[SettingsGroup]]) -> SettingsT:
    """Return the settings with further groups, by name. Groups that the settings have already are not changed.

    Raises:
        AppKitError: When a name is taken, or a variable's value is invalid; the message names the variable.
    """
    new = {name: group for name, group in groups.items() if not _has(settings, name, group)}
    if not new:
        return settings
    fields: dict[str, Any] = {name: (group, ...) for name, group in new.items()}
    values = _read(create_model("PluginSettings", __base__=_Groups, **fields), type(settings))
    extended = create_model(type(settings).__name__, __base__=type(settings), **fields)
    return extended.model_construct(settings.model_fields_set, **dict(settings), **dict(values))


class _Groups(BaseSettings):
    """Settings that consist of groups only, read from the app's own sources."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *args: Any, **sources: Any
    ) -> tuple[Any, ...]:
        return Settings.settings_customise_sources(settings_cls, *args, **sources)


def _read(model: type[_Groups], settings_cls: type[Settings]) -> _Groups:
    model.model_config |= settings_cls.model_config
    try:
        return model(**{name: {} for name in model.model_fields})
    except ValidationError as exc:
        raise AppKitError("\n".join(describe_errors(name_variables(model, exc)))) from None


def _has(settings: Settings, name: str, group: type[SettingsGroup]) -> bool:
    if name not in type(settings).model_fields:
        return False
    if not isinstance(getattr(settings, name), group):
        raise AppKitError(f"The settings have a field {name!r} already. Register {group.__name__} by another name.")
    return True
