"""Redaction: hides secrets in log lines and in the output of `appkit settings`."""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

_SECRET_NAME = re.compile(
    r"passw|passphrase|secret|token|authorization|cookie|api[-_]?key|private[-_]?key|credential|dsn", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(://[^\s:/@]*:)[^\s/@]+@")
_HIDDEN = "***"


def redact(value: Any) -> Any:
    """Return the value without secrets: passwords in URLs, and nested values with a name such as `token`."""
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1{_HIDDEN}@", value) if "@" in value else value
    if isinstance(value, Mapping):
        return {name: _HIDDEN if _is_secret(name) else redact(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        if len(value) == 2 and _is_secret(value[0]):  # noqa: PLR2004  # a header's name and value
            return (value[0], _HIDDEN)
        return [redact(inner) for inner in value]
    return value


def redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Remove secrets from the fields of a log line. This is a processor of structlog."""
    for name, value in event.items():
        if not name.startswith("_") and name != "exc_info":
            event[name] = _HIDDEN if _is_secret(name) else redact(value)
    return event


def _is_secret(name: object) -> bool:
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return isinstance(text, str) and _SECRET_NAME.search(text) is not None
