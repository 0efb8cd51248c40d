"""The development secret: all processes share it, and only its owner can read it."""

import subprocess
import sys
from pathlib import Path

import pytest

from appkit.core.secrets import _create, development_secret
from appkit.exceptions import AppKitError

_RACER = """
import sys, time
from pathlib import Path
from appkit.core.secrets import development_secret
print("ready", flush=True)
sys.stdin.readline()
print(development_secret(Path(sys.argv[1])).decode(), flush=True)
"""


def test_development_secret_is_the_same_for_concurrent_processes(tmp_path: Path):
    command = [sys.executable, "-c", _RACER, str(tmp_path / ".appkit")]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    secrets = {racer.communicate(timeout=30)[0] for racer in racers}
    assert len(secrets) == 1
    assert len(secrets.pop().strip()) >= 32
    assert sorted(path.name for path in (tmp_path / ".appkit").iterdir()) == [".gitignore", "secret"]


def test_development_secret_is_readable_only_by_its_owner_and_ignored_by_git(tmp_path: Path):
    development_secret(tmp_path / ".appkit")
    assert (tmp_path / ".appkit" / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".appkit" / ".gitignore").read_text() == "*\n"


def test_development_secret_is_kept(tmp_path: Path):
    assert (
        development_secret(tmp_path / "a") == development_secret(tmp_path / "a") != development_secret(tmp_path / "b")
    )


def test_development_secret_of_the_first_process_stays(tmp_path: Path):
    first = development_secret(tmp_path)
    _create(tmp_path / "secret")
    assert development_secret(tmp_path) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == [".gitignore", "secret"]


def test_development_secret_that_is_too_short_is_refused(tmp_path: Path):
    (tmp_path / "secret").write_text("")
    with pytest.raises(AppKitError, match=r"secret has fewer than 32 bytes\. Delete the file"):
        development_secret(tmp_path)


def test_development_secret_that_cannot_be_stored_names_the_variable(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AppKitError, match=r"Set AUTH_SECRET_KEYS\."):
        development_secret(tmp_path / "file" / ".appkit")
