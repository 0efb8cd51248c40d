"""Errors: every code has one holder, in the range of its status."""

from typing import Any

import pytest

from appkit import exceptions
from appkit.exceptions import (
    RANGES,
    APIException,
    AppKitError,
    ConflictException,
    EmailTakenException,
    NotFoundException,
    ServerException,
    ServiceUnavailableException,
    TooManyRequestsException,
    UnauthorizedException,
    codes_for,
)

OURS = [cls for cls in APIException.registry().values() if cls.__module__ == exceptions.__name__]


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only appkit's own codes are taken, and classes made in a test give theirs back."""
    monkeypatch.setattr(exceptions, "_registry", {cls.internal_code: cls for cls in OURS})


def make(name: str, base: type[APIException], *, module: str = "desk.errors", **attributes: Any) -> type[APIException]:
    return type(name, (base,), {"__module__": module, "__qualname__": name, **attributes})


def test_registry_lists_every_exception_by_its_code():
    registry = APIException.registry()
    assert list(registry) == sorted(registry)
    assert registry[40950] is EmailTakenException
    assert {40000, 40100, 40200, 40400, 40900, 41300, 42200, 42900, 50000, 50050} <= set(registry)
    assert all(code in codes_for(cls.status_code) for code, cls in registry.items())


def test_registry_cannot_be_changed():
    with pytest.raises(TypeError):
        APIException.registry()[1] = APIException  # type: ignore[index]


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: str(cls.__name__))
def test_exception_has_a_docstring_and_a_detail(cls: type[APIException]):
    assert cls.__doc__
    assert cls.detail.endswith(".")
    assert cls().detail == str(cls()) == cls.detail


def test_exception_accepts_detail_headers_and_extra():
    exc = NotFoundException("No such post.", headers={"X-A": "b"}, extra={"post": 1})
    assert (exc.detail, str(exc), exc.headers, exc.extra) == (
        "No such post.",
        "No such post.",
        {"X-A": "b"},
        {"post": 1},
    )
    assert NotFoundException.detail != exc.detail


@pytest.mark.parametrize("cls", [TooManyRequestsException, ServiceUnavailableException])
def test_temporary_exceptions_have_retry_after(
    cls: type[TooManyRequestsException] | type[ServiceUnavailableException],
):
    assert cls(retry_after=7).headers == {"Retry-After": "7"}


def test_taken_code_error_names_its_class_and_the_next_free_code():
    make("FirstException", ConflictException, internal_code=40901)
    with pytest.raises(AppKitError) as caught:
        make("SecondException", ConflictException, internal_code=40901)
    assert str(caught.value) == (
        "desk.errors.SecondException has the internal_code 40901, which desk.errors.FirstException has already. "
        "The next free one is 40902."
    )
    assert APIException.registry()[40901].__name__ == "FirstException"


@pytest.mark.parametrize(
    ("base", "code", "sentence"),
    [
        (ConflictException, 40401, "answers 409, whose codes are 40900 to 40999, but its internal_code is 40401."),
        (UnauthorizedException, 40201, "answers 401, whose codes are 40100 to 40199, but its internal_code is 40201."),
        (ServerException, 60000, "answers 500, whose codes are 50000 to 59999, but its internal_code is 60000."),
    ],
    ids=["409", "401", "500"],
)
def test_code_out_of_range_error_names_the_range_and_the_next_free_code(
    base: type[APIException], code: int, sentence: str
):
    with pytest.raises(AppKitError) as caught:
        make("LostException", base, internal_code=code)
    assert sentence in str(caught.value)
    free = int(str(caught.value).rsplit(" ", 1)[1].rstrip("."))
    make("LostException", base, internal_code=free)


def test_next_free_code_of_a_server_error_is_an_apps_own():
    with pytest.raises(AppKitError, match=r"The next free one is 50101\."):
        make("LostException", ServerException, internal_code=40000)


def test_next_free_code_is_any_when_the_apps_own_are_taken():
    for code in range(40901, 40950):
        make(f"E{code}Exception", ConflictException, internal_code=code)
    with pytest.raises(AppKitError) as caught:
        make("LostException", ConflictException, internal_code=40901)
    free = int(str(caught.value).rsplit(" ", 1)[1].rstrip("."))
    assert free in range(40950, 41000)
    assert free not in APIException.registry()


def test_reload_replaces_the_class_of_the_same_module_and_name():
    make("AgainException", ConflictException, internal_code=40901)
    newest = make("AgainException", ConflictException, internal_code=40901)
    assert APIException.registry()[40901] is newest
    with pytest.raises(AppKitError, match=r"desk\.errors\.AgainException has already"):
        make("AgainException", ConflictException, module="other.errors", internal_code=40901)


def test_class_without_a_code_inherits_its_parents():
    child = make("ChildException", EmailTakenException)
    assert child.internal_code == 40950
    assert APIException.registry()[40950] is EmailTakenException


def test_class_with_another_status_needs_a_code_of_its_range():
    with pytest.raises(
        AppKitError, match=r"answers 404, whose codes are 40400 to 40499, but its internal_code is 40900"
    ):
        make("GoneException", ConflictException, status_code=404)
    assert make("GoneException", ConflictException, status_code=404, internal_code=40401).status_code == 404
    assert make("SlowException", ServerException, status_code=504).internal_code == 50000


@pytest.mark.parametrize("status_code", [200, 402, 418, 600])
def test_status_without_a_range_is_refused(status_code: int):
    with pytest.raises(AppKitError, match=f"There are no error codes for status {status_code}. Use one of 400, 401"):
        make("OddException", APIException, status_code=status_code, internal_code=40001)


def test_ranges_belong_to_one_status_each():
    codes = [code for codes in RANGES.values() for code in codes]
    assert len(codes) == len(set(codes))
