"""Log lines: one format, the current ids, and no secrets."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from appkit.core import context
from appkit.core.logging import configure_logging
from appkit.core.redaction import redact
from appkit.core.secrets import new_secret
from appkit.core.settings import Settings

JSON = Settings(_env_file=None, logging={"format": "json"})
CONSOLE = Settings(_env_file=None, logging={"format": "console"})


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Restore logging after the test, because it belongs to the process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_log_lines_of_all_loggers_have_one_format(capsys: pytest.CaptureFixture[str]):
    configure_logging(JSON)
    logging.getLogger("sqlalchemy.pool").warning("Pool of %s is full.", "writers", extra={"size": 3})
    structlog.get_logger("desk").info("post_published", post="p1")
    foreign, own = lines(capsys)
    assert foreign.pop("timestamp").endswith("Z")
    assert own.pop("timestamp").endswith("Z")
    assert foreign == {"event": "Pool of writers is full.", "logger": "sqlalchemy.pool", "level": "warning", "size": 3}
    assert own == {"event": "post_published", "logger": "desk", "level": "info", "post": "p1"}


def test_log_lines_contain_the_current_ids(capsys: pytest.CaptureFixture[str]):
    configure_logging(JSON)
    token = context.request_id.set("r1")
    logging.getLogger("a").warning("one")
    user = context.user_id.set("u1")
    task = context.task_id.set("t1")
    structlog.get_logger("a").warning("two")
    for variable, reset in ((context.request_id, token), (context.user_id, user), (context.task_id, task)):
        variable.reset(reset)
    logging.getLogger("a").warning("three")
    ids = [
        {name: line[name] for name in ("request_id", "user_id", "task_id") if name in line} for line in lines(capsys)
    ]
    assert ids == [{"request_id": "r1"}, {"request_id": "r1", "user_id": "u1", "task_id": "t1"}, {}]


def test_log_lines_are_written_once_after_configuring_twice(capsys: pytest.CaptureFixture[str]):
    configure_logging(CONSOLE)
    configure_logging(JSON)
    logging.getLogger("a").warning("once")
    structlog.get_logger("a").warning("once")
    assert [line["event"] for line in lines(capsys)] == ["once", "once"]


def test_logs_replace_the_root_handlers_of_basic_config_only(capsys: pytest.CaptureFixture[str]):
    plain, own = logging.StreamHandler(), logging.NullHandler()
    logging.getLogger().handlers[:] = [plain, own]
    configure_logging(JSON)
    assert plain not in logging.getLogger().handlers
    assert own in logging.getLogger().handlers
    logging.getLogger("a").warning("once")
    assert len(lines(capsys)) == 1


def test_log_lines_of_uvicorn_are_written_without_its_access_log(capsys: pytest.CaptureFixture[str]):
    for name in ("uvicorn", "uvicorn.access"):
        logging.getLogger(name).addHandler(logging.StreamHandler())
        logging.getLogger(name).propagate = False
    configure_logging(JSON)
    logging.getLogger("uvicorn.error").info("Started", extra={"color_message": "\x1b[1mStarted"})
    logging.getLogger("uvicorn.access").info("GET /")
    (line,) = lines(capsys)
    assert (line["event"], line["logger"], "color_message" in line) == ("Started", "uvicorn.error", False)
    assert not logging.getLogger("uvicorn.access").hasHandlers()


def test_logs_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]):
    configure_logging(Settings(_env_file=None, logging={"format": "json", "level": "WARNING"}))
    structlog.get_logger("a").info("quiet")
    logging.getLogger("a").info("quiet")
    assert lines(capsys) == []


def test_log_lines_are_json_in_production_and_plain_text_elsewhere(capsys: pytest.CaptureFixture[str]):
    configure_logging(Settings(_env_file=None, environment="production", auth={"secret_keys": [new_secret()]}))
    logging.getLogger("a").warning("hello")
    assert lines(capsys)[0]["event"] == "hello"
    configure_logging(Settings(_env_file=None))
    logging.getLogger("a").warning("hello")
    assert "[warning  ] hello" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [JSON, CONSOLE], ids=["json", "console"])
def test_log_lines_hide_secrets(capsys: pytest.CaptureFixture[str], settings: Settings):
    configure_logging(settings)
    fields = {
        "password": "hunter2",
        "payload": {"user": {"new_password": "hunter2", "name": "Ada"}, "keys": [{"api-key": "hunter2"}]},
        "headers": [(b"authorization", b"Bearer hunter2"), ("Set-Cookie", "hunter2"), ("accept", "*/*")],
        "url": "postgresql://app:hunter2@db/app",
    }
    logging.getLogger("a").warning("to redis://:hunter2@cache/0", extra=fields)
    structlog.get_logger("a").warning("to redis://:hunter2@cache/0", **fields)
    written = capsys.readouterr().err
    assert "hunter2" not in written
    assert written.count("postgresql://app:***@db/app") == written.count("Ada") == 2


@pytest.mark.parametrize("settings", [JSON, CONSOLE], ids=["json", "console"])
def test_logs_show_tracebacks_without_variables(capsys: pytest.CaptureFixture[str], settings: Settings):
    configure_logging(settings)
    local = "hunter{}".format(2)  # noqa: UP032  # The traceback shows this line.
    try:
        raise ValueError(f"can't reach postgresql://app:{local}@db")  # noqa: TRY301
    except ValueError:
        logging.getLogger("a").exception("failed")
        structlog.get_logger("a").exception("failed")
    written = capsys.readouterr().err
    assert written.count("ValueError: can't reach postgresql://app:***@db") == 2
    assert "hunter2" not in written


@pytest.mark.parametrize(
    "name",
    ["password", "old_passwd", "secret_keys", "accessToken", "Authorization", "cookie", "Set-Cookie", "API_KEY", "dsn"],
)
def test_redact_hides_values_with_names_of_secrets(name: str):
    assert redact({name: "x", "name": "y"}) == {name: "***", "name": "y"}


def test_redact_does_not_change_its_argument():
    given = {"a": [{"token": "x"}]}
    assert redact(given) == {"a": [{"token": "***"}]}
    assert given == {"a": [{"token": "x"}]}
