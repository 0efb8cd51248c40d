"""Validation error messages: Pydantic's errors in plain words, without the invalid value."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from pydantic_core.core_schema import ErrorType

_WORDS: Final = {
    "date_future": "This must be in the future.",
    "date_past": "This must be in the past.",
    "datetime_future": "This must be in the future.",
    "datetime_past": "This must be in the past.",
    "enum": "Choose one of {expected}.",
    "extra_forbidden": "This is not expected here.",
    "finite_number": "This must be a finite number.",
    "greater_than": "This must be more than {gt}.",
    "greater_than_equal": "This must be at least {ge}.",
    "json_invalid": "This is not valid JSON.",
    "less_than": "This must be less than {lt}.",
    "less_than_equal": "This must be at most {le}.",
    "literal_error": "Choose one of {expected}.",
    "missing": "This is required.",
    "multiple_of": "This must be a multiple of {multiple_of}.",
    "none_required": "This must be empty.",
    "string_pattern_mismatch": "This is not in the right form.",
    "string_too_long": "Use at most {max_length} characters.",
    "string_too_short": "Use at least {min_length} characters.",
    "string_unicode": "This contains characters that can't be stored.",
    "time_delta_parsing": "This must be a duration.",
    "time_delta_type": "This must be a duration.",
    "timezone_aware": "This must say its time zone.",
    "timezone_naive": "This must not say a time zone.",
    "too_long": "Give at most {max_length} items.",
    "too_short": "Give at least {min_length} items.",
    "url_too_long": "Use at most {max_length} characters.",
}

_FAMILIES: Final = {
    "bool": "This must be true or false.",
    "bytes": "This must be text.",
    "dataclass": "This must be an object.",
    "date": "This must be a date.",
    "datetime": "This must be a date and a time.",
    "decimal": "This must be a number with fewer digits.",
    "dict": "This must be an object.",
    "float": "This must be a number.",
    "int": "This must be a whole number.",
    "list": "This must be a list.",
    "mapping": "This must be an object.",
    "model": "This must be an object.",
    "set": "This must be a list.",
    "string": "This must be text.",
    "time": "This must be a time.",
    "tuple": "This must be a list.",
    "url": "This must be a web address.",
    "uuid": "This must be an id.",
}

_OTHERWISE: Final = "This is not acceptable."
_BUILT_IN: Final = frozenset(get_args(ErrorType))
_LOCATIONS: Final = frozenset({"body", "cookie", "header", "path", "query"})


def field_problems(errors: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """Convert Pydantic's errors to the `errors` of a problem document.

    Pydantic's own messages are replaced, because they are for developers and may contain the value. The message of an
    app's validator is sent unchanged, so it must not contain the value.
    """
    for error in errors:
        yield {"field": _field(error), "message": _message(error), "type": error["type"]}


def _field(error: Mapping[str, Any]) -> str:
    path: Sequence[str | int] = error["loc"]
    if error["type"] == "json_invalid" or not path:
        return ""
    return ".".join(map(str, path[1:] if path[0] in _LOCATIONS else path))


def _message(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        if "error" in context:  # The ValueError of an app's validator.
            return str(context["error"]) or _OTHERWISE
        # EmailStr's error has only a technical reason.
        return "This is not an e-mail address." if "reason" in context else _OTHERWISE
    if kind not in _BUILT_IN:
        return str(error["msg"])  # A PydanticCustomError, which the app wrote for its users.
    words = _WORDS.get(kind) or _FAMILIES.get(kind.partition("_")[0], _OTHERWISE)
    words = words.format_map(context)
    return words.replace(" 1 characters", " 1 character").replace(" 1 items", " 1 item")
