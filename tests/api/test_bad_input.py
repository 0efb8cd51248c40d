"""Bad input never gives a 500: on every route, on both databases, signed in or not."""

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated
from uuid import UUID

import pytest
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.routing import iter_route_contexts
from httpx2 import AsyncClient, Response
from sqlalchemy import select, update
from sqlalchemy.orm import Mapped

from appkit.api.dependencies import DbSession
from appkit.api.schemas import Schema
from appkit.core.settings import DatabaseSettings, FrontendSettings, HTTPSettings, Settings
from appkit.kit import AppKit
from appkit.repository.base import BaseTableModel

Serve = Callable[..., AsyncClient]

PASSWORD = "correct horse hunter2"
LIMIT = 20_000


class BadInputNote(BaseTableModel):
    """A table with rules of its own for nothing: what a hasty app has."""

    title: Mapped[str]
    stars: Mapped[int]


class NoteSchema(Schema):
    title: str
    stars: int


notes = APIRouter(prefix="/notes")


@notes.post("", status_code=201)
async def add_note(payload: NoteSchema, db: DbSession) -> NoteSchema:
    db.add(BadInputNote(title=payload.title, stars=payload.stars))
    await db.flush()
    return payload


@notes.get("")
async def find_notes(
    db: DbSession, title: str = "", stars: int = 0, like: Annotated[Sequence[str], Query()] = ()
) -> list[NoteSchema]:
    rows = select(BadInputNote).where(BadInputNote.title == title, BadInputNote.stars == stars)
    for pattern in like:
        rows = rows.where(BadInputNote.title.like(pattern))
    return [NoteSchema.model_validate(row) for row in await db.scalars(rows)]


@notes.get("/{title}")
async def show_note(title: str, db: DbSession) -> NoteSchema | None:
    row = await db.scalar(select(BadInputNote).filter_by(title=title))
    return None if row is None else NoteSchema.model_validate(row)


@notes.put("/{note_id}/file")
async def put_file(note_id: UUID, request: Request) -> int:
    return len(await request.body())


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[FastAPI]:
    (tmp_path / "index.html").write_text("<title>Notes</title>")
    settings = Settings(
        environment="test",
        database=DatabaseSettings(url=database_url),
        frontend=FrontendSettings(dist=tmp_path),
        http=HTTPSettings(max_body_size=LIMIT),
    )
    kit = AppKit(settings, routers=[notes], discover=False)
    app = kit.app
    await kit.database.create_all()
    yield app
    await kit.database.dispose()


@pytest.fixture
async def client(app: FastAPI, serve: Serve) -> AsyncIterator[AsyncClient]:
    """Signed in as a superuser, so that bad input gets as far as it can."""
    async with serve(app) as client:
        answer = await client.post("/api/auth/signup", json={"email": "ann@example.com", "password": PASSWORD})
        context = app.state.appkit
        async with context.database.session() as session:
            await session.execute(update(context.user_model).values(is_superuser=True))
        assert answer.status_code == 201
        yield client


@pytest.fixture(autouse=True)
def _nothing_leaks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("aiosqlite").setLevel(logging.INFO)  # As `configure_logging` has it.
    yield
    assert "hunter2" not in caplog.text


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Every method of every route; signing out comes last."""
    contexts = iter_route_contexts(app.routes)
    found = [(method, str(context.path)) for context in contexts for method in sorted(context.methods or ())]
    found.remove(("GET", "/api/health/ready"))  # It is not: the lifespan, and with it the worker, is left out here.
    return sorted(found, key=lambda route: "signout" in route[1])


def with_bodies(app: FastAPI) -> Iterator[tuple[str, str]]:
    return ((method, path) for method, path in routes(app) if method in {"POST", "PUT", "PATCH"})


def at(path: str, value: str = "01920000-0000-7000-8000-000000000000") -> str:
    """A path with `value` for each of its parameters."""
    parts = (value if part.startswith("{") else part for part in path.split("/"))
    return "/".join(parts)


def fields(app: FastAPI, method: str, path: str) -> list[str]:
    """The names of a body's fields, as the OpenAPI document has them."""
    document = app.openapi()
    operation = document["paths"].get(path, {}).get(method.lower(), {})
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    return list(document["components"]["schemas"].get(name, {}).get("properties", ()))


def assert_answered(answer: Response) -> None:
    """No 5xx, and every error is a problem document without the password."""
    request = answer.request
    assert answer.status_code < 500, f"{request.method} {request.url} {request.headers} {request.content[:200]!r}"
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", request.url
        if request.method != "HEAD":
            assert answer.json()["status"] == answer.status_code
    assert "hunter2" not in answer.text


def chunked(body: bytes) -> AsyncIterator[bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    return chunks()


JSON = {"Content-Type": "application/json"}

VALUES = [
    r'"\ud800"',
    r'"a\udfff@example.com"',
    r'"a\u0000b"',
    json.dumps("x" * 10_000),
    json.dumps("x" * 300 + "@example.com"),
    json.dumps("\u202e\u200f\ufeff"),
    "9" * 30,
    "9" * 5000,
    "Infinity",
    "NaN",
    "null",
    "[" * 5000 + "]" * 5000,
    '{"a": {"b": ["hunter2"]}}',
]


async def test_strange_values_in_each_field_cause_no_server_error(app: FastAPI, client: AsyncClient):
    """One field at a time: the others are good, so that the route gets to see it."""
    good = {"email": '"bob@example.com"', "password": f'"{PASSWORD}"', "title": '"t"', "stars": "5"}
    for method, path in with_bodies(app):
        for name, value in product(fields(app, method, path), VALUES):
            body = {**{other: good.get(other, "null") for other in fields(app, method, path)}, name: value}
            text = ", ".join(f'"{key}": {each}' for key, each in body.items() if each != "null" or key == name)
            answer = await client.request(method, at(path), content=f"{{{text}}}".encode(), headers=JSON)
            assert_answered(answer)


BODIES: list[tuple[bytes, str | None]] = [
    (b"", "application/json"),
    (b'{"email": "ann@example.com", "password": "hunter2', "application/json"),
    (b'{"password": "hunter2\xff\xfe"}', "application/json"),
    ('{"password": "hunter2"}'.encode("utf-16"), "application/json; charset=utf-16"),
    (b'{"password": "\xed\xa0\x80hunter2"}', "application/json"),
    (rb'{"\ud800": 1, "password": "hunter2"}', "application/json"),
    (b"[" * 10_000, "application/json"),
    (b'["hunter2"]', "application/json"),
    (b'"hunter2"', "application/json"),
    (b"7", "application/json"),
    (b"null", "application/json"),
    (b"email=ann@example.com&password=hunter2", "application/x-www-form-urlencoded"),
    (b"--x\r\nhunter2", "multipart/form-data; boundary=y"),
    (b'{"email": "a@example.com", "password": "hunter2"}', "text/plain"),
    (b'{"email": "a@example.com", "password": "hunter2"}', None),
    (b'{"password": "hunter2"}', "application/json; charset=\xe9;;=,"),
]


async def test_strange_bodies_cause_no_server_error(app: FastAPI, client: AsyncClient):
    for (method, path), (body, kind) in product(routes(app), BODIES):
        headers = {} if kind is None else {b"Content-Type": kind.encode("latin-1")}
        assert_answered(await client.request(method, at(path), content=body, headers=headers))


@pytest.mark.parametrize("stream", [False, True])
async def test_bodies_over_the_limit_are_refused(app: FastAPI, client: AsyncClient, *, stream: bool):
    body = json.dumps({"password": "hunter2" + "x" * LIMIT}).encode()
    tried = [*with_bodies(app)]
    for method, path in tried:
        content = chunked(body) if stream else body
        answer = await client.request(method, at(path), content=content, headers=JSON)
        assert_answered(answer)
        if fields(app, method, path):
            assert (answer.status_code, answer.json()["internal_code"]) == (413, 41300)
    assert ("POST", "/api/auth/signin") in tried


PARAMETERS = ["%00", "a%00b", "%ED%A0%80", "%FF", "-1", "9" * 400, "x" * 3000, "%2e%2e%2f", "%25", "ü", "' OR 1=1 --"]


async def test_strange_values_in_paths_and_queries_cause_no_server_error(app: FastAPI, client: AsyncClient):
    for path, value in product(("/", "/assets/", "/api/", "/api/docs/assets/"), PARAMETERS):
        assert_answered(await client.get(f"{path}{value}"))
    for (method, path), value in product(routes(app), PARAMETERS):
        assert_answered(await client.request(method, at(path, value)))
        for name in ("cursor", "size", "title", "stars", "like", value):
            assert_answered(await client.request(method, f"{at(path)}?{name}={value}"))


HEADERS = [
    {b"Authorization": b"Bearer \xff\xfe"},
    {b"Authorization": b"Bearer " + b"a." * 3000},
    {b"Authorization": b"Basic hunter2"},
    {b"Cookie": b"appkit_at=\xff; appkit_rt=\x80"},
    {b"Cookie": b"appkit_at=" + b"e30" * 3000 + b"; appkit_rt=" + b"A" * 3000},
    {b"Cookie": b';;==;"=;appkit_at="'},
    {b"Accept": b"nonsense", b"Accept-Encoding": b"\xff", b"Range": b"bytes=9-1"},
    {b"Origin": b"http://[", b"Sec-Fetch-Site": b"\xff"},
    {b"Host": b"a:b:c", b"X-Forwarded-For": b"\xff", b"X-Request-ID": b"\xff"},
    {b"User-Agent": b"\xff" * 3000},
    {b"If-None-Match": b"\xff", b"If-Modified-Since": b"yesterday"},
    {b"Content-Length": b"-7"},
]


async def test_strange_headers_cause_no_server_error(app: FastAPI, serve: Serve):
    body = {"email": "cy@example.com", "password": PASSWORD}
    for headers in HEADERS:
        async with serve(app) as client:
            for method, path in routes(app):
                assert_answered(await client.request(method, at(path), headers=headers))
            for path in ("/api/auth/signup", "/api/auth/signin"):
                assert_answered(await client.post(path, json=body, headers=headers))
