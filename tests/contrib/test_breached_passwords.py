"""The plugin breached_passwords, with a local server in place of Have I Been Pwned."""

import asyncio
import hashlib

import pytest
from httpx2 import AsyncClient, Response

from appkit.contrib import breached_passwords
from appkit.contrib.breached_passwords import BreachCheckFailed, BreachedPasswordsSettings
from appkit.exceptions import UnprocessableException
from appkit.kit import AppKit
from appkit.testing.kits import rebuilt

BREACHED = "a password of many"
DIGEST = hashlib.sha1(BREACHED.encode()).hexdigest().upper()
LINES = f"{'0' * 35}:0\r\n{DIGEST[5:]}:3\r\n{'F' * 35}:12\r\n"


@pytest.fixture
def answer():
    """The server's response: status line and body."""
    return {"status": "200 OK", "body": LINES}


@pytest.fixture
async def requests(answer):
    """The requests that the server received."""
    seen = []

    async def serve(reader, writer):
        try:
            seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        except asyncio.IncompleteReadError:  # The client timed out before it sent the request.
            writer.close()
            return
        if answer["status"] != "never":
            body = answer["body"]
            writer.write(f"HTTP/1.1 {answer['status']}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            await writer.drain()
        else:
            await reader.read()  # Until the client times out.
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    answer["port"] = server.sockets[0].getsockname()[1]
    yield seen
    server.close()


@pytest.fixture
def kit(settings, requests, answer):
    own = BreachedPasswordsSettings(url=f"http://127.0.0.1:{answer['port']}/range/", timeout=answer.get("timeout", 60))
    with rebuilt(AppKit(plugins=[breached_passwords], discover=False), settings) as kit:
        kit.__dict__["settings"] = kit.settings.model_copy(update={"breached_passwords": own})
        yield kit


async def sign_up(client: AsyncClient, password: str) -> Response:
    return await client.post("/api/auth/signup", json={"email": "ada@example.com", "password": password})


async def test_breached_password_is_refused(client, requests, assert_error):
    problem = assert_error(await sign_up(client, BREACHED), UnprocessableException)
    assert "data breach" in str(problem["errors"])
    assert (await sign_up(client, "a password of nobody's")).status_code == 201


async def test_only_five_digits_of_the_hash_leave_the_app(client, requests):
    await sign_up(client, BREACHED)
    (request,) = requests
    assert request.startswith(f"GET /range/{DIGEST[:5]} HTTP/1.1\r\n")
    assert "add-padding: true" in request.lower()
    assert DIGEST[5:] not in request
    assert BREACHED not in request


async def test_padding_line_is_no_breach(client, answer):
    answer["body"] = f"{DIGEST[5:]}:0\r\n"
    assert (await sign_up(client, BREACHED)).status_code == 201


async def test_password_seen_less_often_than_the_limit_is_accepted(client, kit):
    own = kit.settings.group(BreachedPasswordsSettings).model_copy(update={"least": 4})
    kit.context.settings = kit.settings.model_copy(update={"breached_passwords": own})
    assert (await sign_up(client, BREACHED)).status_code == 201


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "503 Service Unavailable", "body": ""},
        {"status": "200 OK", "body": "<html>A captive portal</html>"},
        {"status": "never", "body": "", "timeout": 0.2},
    ],
)
async def test_password_is_accepted_with_an_event_when_the_api_fails(client, events, answer):
    assert (await sign_up(client, BREACHED)).status_code == 201
    assert [type(event) for event in events].count(BreachCheckFailed) == 1
