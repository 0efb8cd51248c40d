"""The variables of the templates of `appkit add entity`, made from the entity's name and fields."""

import keyword
import re
from dataclasses import dataclass
from typing import Any

from appkit.cli.field_types import TYPES, FieldType
from appkit.exceptions import AppKitError
from appkit.repository.base import snake_case

OWNER = "user"
RESERVED = frozenset({"id", "created_at", "updated_at", "metadata", "registry"})


@dataclass(frozen=True)
class Field:
    """A field of the entity, as in `title:str` or `subtitle:str?`."""

    name: str
    type: FieldType | None
    """None for the entity's owner."""
    optional: bool


def entity_context(name: str, fields: list[str]) -> dict[str, Any]:
    """The variables of the entity templates.

    Raises:
        AppKitError: When the name is no class name, or a field is invalid or given twice.
    """
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) or keyword.iskeyword(name):
        raise AppKitError(f"{name!r} is not a valid class name. Use a noun in the singular, as in `Post`.")
    parsed = [_parse_field(text) for text in fields]
    owners = [field for field in parsed if field.type is None]
    types = [field.type for field in parsed if field.type is not None]
    if not types:
        raise AppKitError("An entity needs at least one field besides its owner. Add one, as in `title:str`.")
    if len({field.name for field in parsed}) < len(parsed) or len(owners) > 1:
        raise AppKitError(f"Give each field once, and not more than one field of type {OWNER}.")
    snake = snake_case(name)
    words, plural = snake.replace("_", " "), _plural(snake)
    writable = [field for field in parsed if field.type is not None]
    python_types = {type_.python for type_ in types}
    column_types = {type_.column.partition("(")[0] for type_ in types} | ({"ForeignKey"} if owners else set())
    return {
        "name": name,
        "snake": snake,
        "plural": plural,
        "path": plural.replace("_", "-"),
        "words": words,
        "words_with_article": f"{'an' if words[0] in 'aeiou' else 'a'} {words}",
        "plural_words": plural.replace("_", " "),
        "fields": parsed,
        "writable": writable,
        "owner": owners[0] if owners else None,
        "required": next((field for field in writable if not field.optional), None),
        "dates": sorted(python_types & {"date", "datetime"}),
        "has_uuid": bool(owners) or "UUID" in python_types,
        "column_types": sorted(column_types - {""}),
        "request_types": sorted({type_.accepts for type_ in types} - {""}),
    }


def _parse_field(text: str) -> Field:
    name, _, kind = text.partition(":")
    optional = kind.endswith("?")
    kind = kind.removesuffix("?")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name in RESERVED:
        raise AppKitError(
            f"{name!r} is not a valid field name, or is reserved. Use a noun in lower case, as in `title:str`."
        )
    if kind not in TYPES and (kind != OWNER or optional):
        raise AppKitError(
            f"{text!r} has an unknown type. Use {', '.join(TYPES)}, with a ? if the field is optional, or {OWNER} for "
            "the owner. For other types, edit the generated files."
        )
    return Field(name, TYPES.get(kind), optional)


def _plural(snake: str) -> str:
    if re.search(r"[^aeiou]y$", snake):
        return f"{snake[:-1]}ies"
    return f"{snake}es" if re.search(r"(s|x|z|ch|sh)$", snake) else f"{snake}s"
