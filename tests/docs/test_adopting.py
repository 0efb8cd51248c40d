"""Each block works alone, in the words of the page that says so."""

import subprocess
import sys
import time

import pytest

ACCOUNT = {"email": "ada@example.com", "password": "correct horse battery"}


@pytest.mark.slow
def test_kit_installs_into_an_app_with_a_lifespan_of_its_own(folder, serve):
    with serve(folder("adopt_install"), "adopt_install:app") as browser:
        assert browser.get("/greeting").status_code == 401
        assert browser.post("/api/auth/signup", json=ACCOUNT).status_code == 201
        assert browser.get("/greeting").json() == "Hello, ada@example.com"
        assert browser.get("/api/ping").is_success


def test_error_handlers_need_nothing_else(folder, serve):
    directory = folder("adopt_errors")
    with serve(directory, "adopt_errors:app") as browser:
        answer = browser.get("/shelves/poetry")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["internal_code"] == 40401
        described = browser.get("/openapi.json").json()["paths"]["/shelves/{name}"]["get"]["responses"]["404"]
        assert "ShelfNotFoundException" in described["content"]["application/problem+json"]["examples"]
    assert not (directory / "app.db").exists()
    assert not (directory / ".appkit").exists()


def test_database_works_in_a_script(folder, python):
    directory = folder("adopt_database")
    assert python(directory, "adopt_database.py") == "42\n"
    assert python(directory, "adopt_database.py") == "84\n"


def test_base_of_tables_brings_no_other_table(folder, python):
    assert python(folder("adopt_model"), "adopt_model.py") == "['book'] A book UTC\n"


@pytest.mark.slow
def test_broker_runs_tasks_that_another_process_enqueued(folder, python, environment):
    directory = folder("adopt_broker")
    text = directory / "text.txt"
    text.write_text("four words and more")
    python(directory, "-c", f"import asyncio, adopt_broker; asyncio.run(adopt_broker.enqueue({str(text)!r}))")
    worker = subprocess.Popen(
        [sys.executable, "-m", "taskiq", "worker", "--workers", "1", "adopt_broker:broker"],
        cwd=directory,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not (counted := text.with_suffix(".count")).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert counted.read_text() == "4"
    finally:
        worker.terminate()
        worker.wait(timeout=30)


@pytest.mark.slow
def test_auth_router_works_under_a_prefix_of_ones_own(folder, serve):
    with serve(folder("adopt_auth_router"), "adopt_auth_router:app") as browser:
        assert browser.post("/account/auth/signup", json=ACCOUNT).status_code == 201
        assert browser.get("/account/auth/me").json()["email"] == "ada@example.com"
        assert browser.post("/account/auth/signout").status_code == 204
        assert browser.get("/api/auth/me").status_code == 401
