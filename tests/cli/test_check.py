"""`appkit check`: its findings and its options."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appkit import exceptions

Appkit = Callable[..., tuple[int, str, str]]

GOOD = """
from uuid import UUID

from fastapi import APIRouter
from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from appkit import AppKit, BaseService, BaseTableModel, Check, DbSession, hookimpl

router = APIRouter()


class GreenhouseService(BaseService):
    async def count(self) -> int:
        return 0


@router.get("/greenhouses")
async def count_greenhouses(db: DbSession) -> int:
    return await GreenhouseService(db).count()


class Plugin:
    pass


kit = AppKit(routers=[router], plugins=[Plugin()])
"""

BAD = """

from fastapi import Depends
from sqlalchemy import select
from appkit import ConflictException, NotFoundException
from appkit.api.dependencies import get_session


class Greenhouse(BaseTableModel):
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("user.id"))
    other_id: Mapped[UUID] = mapped_column(ForeignKey("user.id"), index=True)


class LockedGreenhouseException(ConflictException):
    internal_code = 40977


@router.get("/threaded")
def threaded() -> None: ...


@router.get("/reads")
async def reads(db: DbSession) -> list[str]:
    # nothing here
    return list(await db.scalars(select(Check)))


@router.post("/late")
async def late(db=Depends(get_session)) -> None: ...


def find_weeds(kit):
    return ["bed 3"]


@hookimpl
def register_checks():
    return [Check("GARDEN1", "There are weeds.", "Pull them out.", find_weeds, url="https://garden.example/weeds")]


Plugin.register_checks = staticmethod(register_checks)
"""


def bad(table: str, code: int) -> str:
    """The faulty app, with a table and an error code that no other test in this process uses."""
    return BAD.replace("class Greenhouse", f"class {table.capitalize()}").replace("40977", str(code))


@pytest.fixture(autouse=True)
def _production_is_not_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")  # The command must run in production too.


@pytest.fixture(autouse=True)
def _own_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the errors of the app and of appkit, without the errors of other tests in this process."""
    ours = {code: cls for code, cls in exceptions._registry.items() if cls.__module__.startswith("appkit.")}
    monkeypatch.setattr(exceptions, "_registry", ours)


@pytest.fixture
def check(appkit: Appkit, folder: Path) -> Callable[..., dict[str, list[dict[str, Any]]]]:
    """The findings in an app, by code."""

    def check(source: str, *options: str, module: str = "greenhouse") -> dict[str, list[dict[str, Any]]]:
        (folder / f"{module}.py").write_text(source)
        code, out, err = appkit("check", f"{module}.py", "--json", *options)
        findings = json.loads(out)
        assert code == bool(findings), err
        return {
            code: [each for each in findings if each["code"] == code] for code in {each["code"] for each in findings}
        }

    return check


@pytest.fixture
def revision(appkit: Appkit, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The good app's first migration."""
    monkeypatch.setenv("ENVIRONMENT", "development")
    (folder / "greenhouse.py").write_text(GOOD)
    assert appkit("db", "revision", "-m", "First tables", "--kit", "greenhouse.py")[0] == 0
    (path,) = (folder / "migrations").glob("*.py")
    return path


def where(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    return {code: [each["where"] for each in findings] for code, findings in found.items()}


def test_check_finds_nothing_in_a_good_app(check, appkit: Appkit) -> None:
    assert check(GOOD) == {}
    assert appkit("check", "greenhouse.py")[:2] == (0, "No problems found.\n")


def test_check_reports_each_problem_with_its_place(check) -> None:
    found = check(GOOD + bad("greenhouse", 40977))
    lines = (GOOD + bad("greenhouse", 40977)).splitlines()
    assert where(found) == {
        "AKC001": [f"GET /api/threaded (greenhouse.py:{lines.index('def threaded() -> None: ...')})"],
        "AKC002": [f"GET /api/reads (greenhouse.py:{lines.index('    # nothing here') + 2})"],
        "AKC003": ["greenhouse.LockedGreenhouseException has 40977"],
        "AKC004": ["POST /api/late"],
        "AKC005": ["greenhouse.owner_id"],
        "GARDEN1": ["bed 3"],
    }
    (weeds,), (threaded,) = found["GARDEN1"], found["AKC001"]
    assert (weeds["problem"], weeds["fix"]) == ("There are weeds.", "Pull them out.")
    assert weeds["url"] == "https://garden.example/weeds"
    assert threaded["url"].endswith("/reference/checks/#akc001")


def test_check_skips_ignored_codes(check) -> None:
    options = [option for code in ("akc001", "AKC002", "AKC003", "AKC004", "AKC005") for option in ("--ignore", code)]
    assert set(check(GOOD + bad("hothouse", 40978), *options, module="hothouse")) == {"GARDEN1"}


def test_check_prints_problem_and_fix(check, appkit: Appkit) -> None:
    check(GOOD + bad("orangery", 40979), module="orangery")
    code, out, _ = appkit("check", "orangery.py", "--ignore", "AKC003")
    assert code == 1
    assert "GARDEN1  There are weeds.\n    bed 3\n    Pull them out. https://garden.example/weeds\n" in out
    assert out.endswith("\n5 findings.\n")


def test_check_deploy_reports_exactly_what_production_lacks(check, revision: Path) -> None:
    found = where(check(GOOD, "--deploy"))
    sentences = " ".join(sentence for group in found.values() for sentence in group)
    assert set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", sentences)) == {"AUTH_SECRET_KEYS", "FRONTEND_URL", "MAIL_URL"}
    assert set(found) == {"AKC101", "AKC105", "AKC106"}


def test_check_deploy_requires_migrations(check) -> None:
    assert where(check(GOOD, "--deploy"))["AKC107"] == ["there are none in migrations"]


def test_check_reports_ignored_variables(check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL", "/var/mail/ada")
    monkeypatch.setenv("REDIS_PORT", "6379")
    assert where(check(GOOD)) == {"AKC007": ["MAIL", "REDIS_PORT"]}


@pytest.mark.parametrize(
    ("variable", "value", "code", "sentence"),
    [
        ("AUTH_SECRET_KEYS", '["short"]', "AKC101", "fewer than 32 bytes"),
        ("AUTH_COOKIE_SECURE", "false", "AKC102", "AUTH_COOKIE_SECURE is false"),
        ("CORS_ORIGINS", '["*"]', "AKC103", "CORS_ORIGINS has a wildcard"),
        ("LOGGING_LEVEL", "DEBUG", "AKC104", "LOGGING_LEVEL is DEBUG"),
        ("FRONTEND_URL", "http://shop.example.com", "AKC105", "FRONTEND_URL does not begin with https"),
        ("MAIL_URL", "memory://", "AKC106", "MAIL_URL is memory://"),
    ],
)
def test_check_deploy_reports_an_unsafe_setting(
    check, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, code: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert sentence in where(check(GOOD, "--deploy"))[code][0]
    assert code not in check(GOOD)


def test_check_compares_models_with_migrations(check, revision: Path) -> None:
    assert check(GOOD) == {}
    revision.write_text(revision.read_text().replace("hashed_password", "hashed"))
    assert any("hashed" in each for each in where(check(GOOD))["AKC006"])


def test_check_deploy_reports_unapplied_migrations(
    check, appkit: Appkit, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("DATABASE_MIGRATE", "check")
    request.getfixturevalue("revision")
    assert where(check(GOOD, "--deploy"))["AKC107"] == ["DATABASE_MIGRATE is check, and the database is behind"]
    assert appkit("db", "upgrade", "--kit", "greenhouse.py")[0] == 0
    assert "AKC107" not in check(GOOD, "--deploy")


def test_check_lists_broken_plugins(check, folder: Path) -> None:
    (folder / "thistle.py").write_text("from appkit import hookimpl\n\n@hookimpl\ndef register_routes(): ...\n")
    info = folder / "thistle-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thistle\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[appkit]\nthistle = thistle\n")
    (broken,) = where(check(GOOD))["AKC008"]
    assert broken.startswith("thistle: AppKitError: Plugin 'thistle' implements register_routes(), which is no hook.")


def test_check_that_fails_is_a_finding(check) -> None:
    source = GOOD + bad("allotment", 40980).replace(
        'return ["bed 3"]', "from appkit import AppKitError; raise AppKitError('No spade.')"
    )
    assert where(check(source, module="allotment"))["GARDEN1"] == ["could not be checked: No spade."]
