"""Log lines: one form for all, the ids of the work in hand, and no secrets."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from appkit.core import context
from appkit.core.logging import configure_logging, redact
from appkit.core.secrets import new_secret
from appkit.core.settings import Settings

JSON = Settings(_env_file=None, logging={"format": "json"})
CONSOLE = Settings(_env_file=None, logging={"format": "console"})


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging belongs to the process: leave it as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_logs_of_every_origin_have_one_form(capsys: pytest.CaptureFixture[str]):
    configure_logging(JSON)
    logging.getLogger("sqlalchemy.pool").warning("Pool of %s is full.", "writers", extra={"size": 3})
    structlog.get_logger("desk").info("post_published", post="p1")
    foreign, own = lines(capsys)
    assert foreign.pop("timestamp").endswith("Z")
    assert own.pop("timestamp").endswith("Z")
    assert foreign == {"event": "Pool of writers is full.", "logger": "sqlalchemy.pool", "level": "warning", "size": 3}
    assert own == {"event": "post_published", "logger": "desk", "level": "info", "post": "p1"}


def test_logs_carry_the_ids_that_are_set(capsys: pytest.CaptureFixture[str]):
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


def test_logs_are_configured_twice_and_written_once(capsys: pytest.CaptureFixture[str]):
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


def test_logs_of_uvicorn_join_without_its_access_lines(capsys: pytest.CaptureFixture[str]):
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


def test_logs_are_json_in_production_and_for_people_elsewhere(capsys: pytest.CaptureFixture[str]):
    configure_logging(Settings(_env_file=None, environment="production", auth={"secret_keys": [new_secret()]}))
    logging.getLogger("a").warning("hello")
    assert lines(capsys)[0]["event"] == "hello"
    configure_logging(Settings(_env_file=None))
    logging.getLogger("a").warning("hello")
    assert "[warning  ] hello" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [JSON, CONSOLE], ids=["json", "console"])
def test_logs_hide_secrets_wherever_they_are(capsys: pytest.CaptureFixture[str], settings: Settings):
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
    local = "hunter{}".format(2)  # noqa: UP032  # The source line must not say it.
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
def test_redact_hides_what_is_called_a_secret(name: str):
    assert redact({name: "x", "name": "y"}) == {name: "***", "name": "y"}


def test_redact_leaves_its_argument_as_it_was():
    given = {"a": [{"token": "x"}]}
    assert redact(given) == {"a": [{"token": "***"}]}
    assert given == {"a": [{"token": "x"}]}
