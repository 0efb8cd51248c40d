"""Environment variables: which field of the settings a variable fills, and which variables are ignored."""

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
)

_LIST_ERRORS = {"tuple_type", "list_type", "set_type", "frozen_set_type"}


class Variable(NamedTuple):
    """An environment variable, and the field that it fills."""

    name: str
    path: tuple[str, ...]
    """The attributes that lead to the value, such as `("database", "pool_size")`."""
    field: FieldInfo
    keys: tuple[str, ...]
    """The same path, but with the aliases of the fields."""

    @property
    def places(self) -> set[tuple[str | int, ...]]:
        """The values that `loc` may have in a pydantic error about this variable."""
        return {self.path, self.keys, (*self.keys[:-1], str(self.field.validation_alias))}


def variables(settings_cls: type[BaseSettings]) -> list[Variable]:
    """Every variable that the settings read, in the order of the fields."""
    prefix = settings_cls.model_config.get("env_prefix") or ""
    return [found._replace(name=f"{prefix}{found.name}".upper()) for found in _variables(settings_cls)]


def ignored_variables(settings_cls: type[BaseSettings]) -> list[str]:
    """The variables that start with the name of a group but fill no field, sorted.

    Some of them are misspelt. Others belong to other programs, such as the `REDIS_PORT` of Kubernetes.
    """
    known = {variable.name for variable in variables(settings_cls)}
    prefix = settings_cls.model_config.get("env_prefix") or ""
    groups = [f"{prefix}{name}".upper() for name, field in settings_cls.model_fields.items() if _group(field)]
    sources = (EnvSettingsSource(settings_cls), DotEnvSettingsSource(settings_cls))
    present = {name.upper() for source in sources for name in source.env_vars}
    return sorted(
        name for name in present - known if any(name == group or name.startswith(f"{group}_") for group in groups)
    )


def name_variables(settings_cls: type[BaseSettings], exc: ValidationError) -> ValidationError:
    """Return the same errors, with the name of the variable instead of the field."""
    names = {path: found.name for found in variables(settings_cls) for path in found.places}
    details: list[InitErrorDetails] = []
    for error in exc.errors(include_url=False, include_input=False):
        loc = error["loc"]
        size = next((size for size in (2, 1) if loc[:size] in names), 0)
        kind: Any = error["type"]
        expected: Any = 'Input should be a JSON list, as in ["a", "b"]' if kind in _LIST_ERRORS else error["msg"]
        where = (names[loc[:size]], *loc[size:]) if size else loc
        details.append(InitErrorDetails(type=PydanticCustomError(kind, expected), loc=where, input=None))
    return ValidationError.from_exception_data(exc.title, details, hide_input=True)


def read_variables(settings_cls: type[BaseSettings], source: PydanticBaseSettingsSource) -> PydanticBaseSettingsSource:
    """Return a settings source that has only the variables that fill a field.

    pydantic-settings itself would read the variable `DATABASE` as JSON of the whole group, and its error would not name
    the variable. It would also decode every file in a secrets directory.
    """
    wanted = variables(settings_cls)
    if isinstance(source, EnvSettingsSource):
        values = {name.upper(): value for name, value in source.env_vars.items()}
    else:
        values = dict(_secret_files(getattr(source, "secrets_dir", None), {variable.name for variable in wanted}))
    data: dict[str, Any] = {}
    for variable in wanted:
        if value := values.get(variable.name):
            *groups, key = variable.keys
            target = data.setdefault(groups[0], {}) if groups else data
            target[key] = _decode(variable.field.annotation, value)
    return InitSettingsSource(settings_cls, init_kwargs=data)


def _variables(model: type[BaseModel]) -> Iterator[Variable]:
    for name, field in model.model_fields.items():
        alias = field.validation_alias if isinstance(field.validation_alias, str) else name
        key = name if model.model_config.get("populate_by_name") else alias
        if issubclass(model, BaseSettings) and (group := _group(field)):
            for inner in _variables(group):
                yield Variable(f"{alias}_{inner.name}", (name, *inner.path), inner.field, (key, *inner.keys))
        else:
            yield Variable(alias, (name,), field, (key,))


def _group(field: FieldInfo) -> type[BaseModel] | None:
    options = (field.annotation, *get_args(field.annotation))
    return next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)


def _decode(annotation: Any, value: str) -> Any:
    if not _takes_json(annotation):
        return value
    try:
        decoded = json.loads(value)
    except ValueError:
        return value  # Validation reports the error.
    return decoded if isinstance(decoded, list | dict) else value


def _takes_json(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and issubclass(kind, Collection | BaseModel):
        return not issubclass(kind, str | bytes)
    return any(map(_takes_json, get_args(annotation)))


def _secret_files(directories: Any, names: set[str]) -> Iterator[tuple[str, str]]:
    """The variables that are stored as files. Other files aren't opened, because they may be binary or unreadable."""
    for directory in [directories] if isinstance(directories, str | os.PathLike) else directories or ():
        path = Path(directory).expanduser()
        for file in path.iterdir() if path.is_dir() else ():
            if file.name.upper() in names and file.is_file():
                yield file.name.upper(), file.read_text(encoding="utf-8").strip()
