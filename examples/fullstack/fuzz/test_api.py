"""Fuzzing: every response matches the OpenAPI schema, and none is a 500."""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from requests import Session
from schemathesis import APIOperation, BaseSchema, Case
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from main import kit

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# These change who is signed in.
ENDS_THE_SESSION = r"/auth/(signup|signin|signout)$|/revoke|^DELETE "

bounded = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "10")),
    derandomize=bool(os.environ.get("CI")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def document(*, tokens: bool) -> BaseSchema:
    """The OpenAPI schema, for requests with random tokens or none."""
    config = SchemathesisConfig.from_dict({"generation": {"with-security-parameters": tokens}})
    return schemathesis.openapi.from_dict(kit.app.openapi(), config=config)


anybody = document(tokens=True)
somebody = document(tokens=False)
writes = somebody.exclude(name_regex=ENDS_THE_SESSION)
reads = [found.ok() for found in somebody.include(method="GET").get_all_operations()]


@anybody.parametrize()
@bounded
def test_guest_gets_a_documented_response(case: Case, address: str, stranger: Session) -> None:
    case.call_and_validate(base_url=address, session=stranger, checks=CHECKS)


@writes.parametrize()
@bounded
def test_user_gets_a_documented_response(case: Case, address: str, member: Session, known: dict[str, str]) -> None:
    """Each request is sent twice: with random ids, and with existing ones."""
    case.call_and_validate(base_url=address, session=member, checks=CHECKS)
    if case.path_parameters:
        case.path_parameters = {**case.path_parameters, **{n: known[n] for n in case.path_parameters if n in known}}
        case.call_and_validate(base_url=address, session=member, checks=CHECKS)


@pytest.mark.parametrize("operation", reads, ids=lambda operation: operation.label)
def test_user_can_read_everything(
    operation: APIOperation, address: str, member: Session, known: dict[str, str]
) -> None:
    """Proves that fuzzing got more than refusals, and that the user is still signed in."""
    case = operation.Case(path_parameters={name: value for name, value in known.items() if name in operation.path})
    answer = case.call_and_validate(base_url=address, session=member, checks=CHECKS)
    assert answer.status_code // 100 == 2
