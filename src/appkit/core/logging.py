"""Logging: one format for all log lines of the process. The lines contain the current ids and no secrets."""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

from appkit.core.context import current_ids
from appkit.core.redaction import redact_event
from appkit.core.settings import Settings


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
        redact_event,
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
