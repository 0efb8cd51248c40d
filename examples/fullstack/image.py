"""Run the Dockerfile's instructions in a folder, start the result, and check its health: `nox -s image`.

So the image is tried where there is no container engine too. What a folder can't show is the base images, and the user.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from demo import HERE, check, free_port, wait_for
from httpx2 import Client

NOT_HERE = ("useradd",)
"""Commands that would change this machine, and are skipped."""


class Stage:
    """A folder as the root of a build stage."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root
        self.environment = {**os.environ, "CI": "true"}
        self.command: list[str] = []
        self.health: list[str] = []

    def place(self, path: str) -> Path:
        """The folder for a path of the image."""
        return self.root / path.removeprefix("/") if path.startswith("/") else self.folder / path

    def workdir(self, path: str) -> None:
        """Change the working directory."""
        self.folder = self.place(path)
        self.folder.mkdir(parents=True, exist_ok=True)

    def copy(self, arguments: list[str], stages: dict[str, "Stage"]) -> None:
        """Copy from the context, or from another stage."""
        source = HERE
        if arguments[0].startswith("--from="):
            source = stages[arguments.pop(0).removeprefix("--from=")].root
        *names, target = arguments
        for name in names:
            path, place = source / name.removeprefix("/"), self.place(target)
            if path.is_dir():
                unwanted = shutil.ignore_patterns("node_modules", "dist", "__pycache__") if source == HERE else None
                shutil.copytree(path, place, ignore=unwanted, dirs_exist_ok=True, symlinks=True)
            else:
                shutil.copy2(path, place / path.name)

    def env(self, words: list[str]) -> None:
        """Set variables, with the image's paths mapped to the folder."""
        for name, value in (word.split("=", 1) for word in words):
            moved = re.sub(r"(?<![\w$])/desk", f"{self.root}/desk", value)
            self.environment[name] = moved.replace(f"${name}", self.environment.get(name, ""))

    def run(self, command: str) -> None:
        """Run a command as the image's shell would."""
        if not command.startswith(NOT_HERE):
            print(f"{self.root.name}: {command}", flush=True)
            subprocess.run(["/bin/sh", "-ec", command], cwd=self.folder, env=self.environment, check=True)


def build(dockerfile: Path, folder: Path) -> Stage:
    """Build all stages in order, and return the last one."""
    stages: dict[str, Stage] = {}
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            name = rest.split()[-1] if " AS " in rest else "image"
            stages[name] = stage = Stage(folder / name)
            stage.root.mkdir()
        elif word == "WORKDIR":
            stage.workdir(rest)
        elif word == "COPY":
            stage.copy(shlex.split(rest), stages)
        elif word == "ENV":
            stage.env(shlex.split(rest))
        elif word == "RUN":
            stage.run(rest)
        elif word == "HEALTHCHECK":
            stage.health = json.loads(rest[rest.index("[") :])
        elif word == "CMD":
            stage.command = json.loads(rest)
    return stage


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """The instructions: name and arguments."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        yield word, rest.strip()


def main() -> None:
    """Build, start in production mode, and check."""
    with tempfile.TemporaryDirectory(prefix="desk-image-") as folder:
        image = build(HERE / "Dockerfile", Path(folder))
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        environment = {
            **image.environment,
            "AUTH_SECRET_KEYS": '["this one ends with the process that tries the image"]',
            "DATABASE_URL": f"sqlite:///{folder}/desk.db",
            "ENVIRONMENT": "production",
            "FRONTEND_URL": address,
            "MAIL_URL": "console://",
        }
        program = shutil.which(image.command[0], path=environment["PATH"])
        if program is None or not Path(program).is_relative_to(image.root):
            sys.exit(f"The image has no {image.command[0]!r} of its own.")
        server = subprocess.Popen(
            [program, *image.command[1:], "--port", str(port)], cwd=image.folder, env=environment, stdout=sys.stderr
        )
        try:
            wait_for(server, f"{address}/api/health")
            subprocess.run([word.replace("8000", str(port)) for word in image.health], env=environment, check=True)
            with Client(base_url=address) as browser:
                check(browser, "GET", "/", 200, contains='id="app"')
                check(browser, "GET", "/api/posts", 200, contains="items")
        finally:
            server.terminate()
            server.wait(timeout=30)
    print("The image starts, is healthy, and serves the frontend and the API.")


if __name__ == "__main__":
    main()
