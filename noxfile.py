"""Everything that is checked, by one command each: `pip install nox && nox -s tests`; `nox -l` lists the rest."""

import os
import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2026.2"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint", "types"]

ROOT = Path(__file__).parent
DESK = ROOT / "examples" / "fullstack"


def find_pythons(*versions: str) -> list[str]:
    """The versions of which an interpreter really answers, put on the PATH; a pyenv shim may have none behind it."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = []
    for version in versions:
        name = f"python{version}"
        for candidate in filter(None, [shutil.which(name), *map(str, pyenv.glob(f"*/bin/{name}"))]):
            if subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
                os.environ["PATH"] = os.pathsep.join([str(Path(candidate).parent), os.environ["PATH"]])
                found.append(version)
                break
    return found


def install(session: nox.Session, *groups: str) -> None:
    """Install the package with all its extras, and these dependency groups."""
    project = nox.project.load_toml(ROOT / "pyproject.toml")
    session.install("-e", ".[all]", *nox.project.dependency_groups(project, *groups))


def run_tests(session: nox.Session) -> None:
    """Run the tests, counting covered lines from the first import on."""
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests with the Python that runs nox."""
    install(session, "test")
    run_tests(session)


@nox.session(python=find_pythons("3.11", "3.12", "3.13"))
def matrix(session: nox.Session) -> None:
    """Run the tests with every supported Python that is installed."""
    install(session, "test")
    session.run("pytest", *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the oldest dependencies that we say we support."""
    project = nox.project.load_toml(ROOT / "pyproject.toml")
    groups = nox.project.dependency_groups(project, "test")
    session.install("uv")
    session.run("uv", "pip", "install", "-q", "--resolution=lowest-direct", "-e", ".[all]", *groups)
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style, and that imports go down the layers only."""
    install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package, its tests and its example."""
    install(session, "types", "test")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/; a broken link fails."""
    install(session, "docs")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})
