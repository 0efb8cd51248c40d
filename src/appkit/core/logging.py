"""Logging: one format for all log lines of the process. The lines contain the current ids and no secrets."""

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

from appkit.core.context import current_ids
from appkit.core.settings import Settings

_SECRET_NAME = re.compile(
    r"passw|passphrase|secret|token|authorization|cookie|api[-_]?key|private[-_]?key|credential|dsn", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(://[^\s:/@]*:)[^\s/@]+@")
_HIDDEN = "***"


def configure_logging(settings: Settings) -> None:
    """Write all log lines of this process to stderr: as JSON in production, and as plain text otherwise.

    Loggers of the standard library and of structlog get the same format. Values in `extra=` become fields of the line.
    The access log of uvicorn is disabled, because appkit logs requests itself. Calling this again is safe.
    """
    import structlog

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_ids,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    renderer: structlog.typing.Processor
    if (settings.logging.format or ("json" if settings.production else "console")) == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        colors = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        # Other exception formatters print local variables, which may be secrets.
        renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    handler = _StderrHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _drop_doubles, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    _install(handler, settings.logging.level)


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


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`, which tests and reloaders replace."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _install(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    for other in root.handlers[:]:
        # `basicConfig` adds a plain StreamHandler, which would write each line twice. Taskiq's worker calls it.
        if type(other) in (_StderrHandler, logging.StreamHandler):
            root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    logging.getLogger("aiosqlite").setLevel(logging.INFO)  # At DEBUG, aiosqlite logs the values of each statement.


def _drop_doubles(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Remove the copies of the message that other handlers and uvicorn add."""
    for name in ("message", "asctime", "color_message"):
        event.pop(name, None)
    return event


def _add_ids(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {**current_ids(), **event}


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if not name.startswith("_") and name != "exc_info":
            event[name] = _HIDDEN if _is_secret(name) else redact(value)
    return event


def _is_secret(name: object) -> bool:
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return isinstance(text, str) and _SECRET_NAME.search(text) is not None
