"""Limits on routes, and the address that they are for, which nobody chooses for themselves."""

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, WebSocket
from httpx2 import ASGITransport, AsyncClient
from hypothesis import given, strategies as st
from pydantic import ValidationError
from starlette.testclient import TestClient, WebSocketDenialResponse

from appkit.api.client_address import client_address, resolve_address
from appkit.api.dependencies import CurrentUser
from appkit.api.rate_limits import limit
from appkit.core.settings import HTTPSettings, LimitsSettings, RedisSettings
from appkit.exceptions import AppKitError, TooManyRequestsException
from appkit.kit import AppKit

router = APIRouter(prefix="/probe")
OTHER = "203.0.113.9"


async def by_user(user: CurrentUser) -> UUID:
    return user.id


async def by_tenant(tenant: Annotated[str, Header()]) -> str:
    return tenant


@router.get("/plain", dependencies=[Depends(limit("2/minute"))])
async def read_plain() -> str:
    return "plain"


@router.post("/plain", dependencies=[Depends(limit("2/minute"))])
async def write_plain() -> str:
    return "plain"


@router.get("/items/{item}", dependencies=[Depends(limit("2/minute"))])
async def read_item(item: int) -> int:
    return item


@router.get("/user", dependencies=[Depends(limit("2/minute", key=by_user))])
async def read_user() -> str:
    return "user"


@router.get("/tenant", dependencies=[Depends(limit("2/minute", key=by_tenant))])
async def read_tenant() -> str:
    return "tenant"


@router.get("/broken", dependencies=[Depends(limit("2/minute"))])
async def read_broken() -> str:
    raise TooManyRequestsException(retry_after=7)


limited = APIRouter(dependencies=[Depends(limit("2/minute"))])


@limited.get("/one")
async def read_one() -> str:
    return "one"


@limited.get("/two")
async def read_two() -> str:
    return "two"


router.include_router(limited, prefix="/a")
router.include_router(limited, prefix="/b")


@router.websocket("/socket")
async def talk(socket: WebSocket, _: Annotated[None, Depends(limit("2/minute"))]) -> None:
    await socket.accept()
    await socket.close()


@router.get("/address")
async def read_address(address: Annotated[str, Depends(client_address)]) -> str:
    return address


@pytest.fixture
def database_url(tmp_path):
    """No database is asked, so one kind is enough."""
    return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def proxies() -> tuple[str, ...]:
    return ()


@pytest.fixture
def settings(settings, proxies):
    http = HTTPSettings(trusted_proxies=proxies)
    return settings.model_copy(update={"limits": LimitsSettings(enabled=True), "http": http})


@pytest.fixture
def kit(kit):
    kit._routers = (router,)
    return kit


@pytest.fixture
def ask(app: FastAPI) -> Callable[..., Any]:
    """A request from an address."""

    async def ask(path: str, peer: str = "198.51.100.7", method: str = "GET", **headers: str) -> Any:
        transport = ASGITransport(app, client=(peer, 5000))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with AsyncClient(transport=transport, base_url="https://testserver", headers=named) as client:
            return await client.request(method, f"/api/probe{path}", headers={"Sec-Fetch-Site": "same-origin"})

    return ask


async def statuses(ask: Callable[..., Any], *requests: tuple[str, dict[str, str]]) -> list[int]:
    return [(await ask(path, **options)).status_code for path, options in requests]


async def test_route_limit_answers_a_429_problem(ask, assert_error):
    assert await statuses(ask, *[("/plain", {})] * 2) == [200, 200]
    answer = await ask("/plain")
    assert_error(answer, TooManyRequestsException)
    assert 55 <= int(answer.headers["retry-after"]) <= 60


async def test_addresses_methods_and_routes_have_separate_counters(ask):
    await statuses(ask, *[("/plain", {})] * 2)
    assert await statuses(ask, ("/plain", {}), ("/plain", {"peer": OTHER}), ("/plain", {"method": "POST"})) == [
        429,
        200,
        200,
    ]


async def test_route_has_one_counter_for_all_path_parameters(ask):
    assert await statuses(ask, *[(f"/items/{number}", {}) for number in range(3)]) == [200, 200, 429]


async def test_addresses_of_one_network_share_a_limit(ask):
    neighbours = [("/plain", {"peer": f"2001:db8:1:2::{host}"}) for host in (1, 2, 3)]
    assert await statuses(ask, *neighbours, ("/plain", {"peer": "2001:db8:1:3::1"})) == [200, 200, 429, 200]


async def test_routes_of_a_limited_router_have_separate_counters(ask):
    assert await statuses(ask, *[(path, {}) for path in ("/a/one", "/a/one", "/a/one", "/a/two")]) == [
        200,
        200,
        429,
        200,
    ]


async def test_router_included_twice_has_separate_counters(ask):
    assert await statuses(ask, *[(path, {}) for path in ("/a/one", "/a/one", "/a/one", "/b/one")]) == [
        200,
        200,
        429,
        200,
    ]


async def test_requests_count_whatever_their_outcome(ask):
    answers = [await ask("/broken") for _ in range(3)]
    assert [answer.headers["retry-after"] == "7" for answer in answers] == [True, True, False]


async def test_key_is_a_dependency(auth_client, ask):
    """Who isn't signed in is told so, and counts for nobody."""
    assert [(await auth_client.get("/api/probe/user")).status_code for _ in range(3)] == [200, 200, 429]
    assert await statuses(ask, *[("/user", {})] * 3) == [401, 401, 401]


async def test_key_replaces_the_address(ask):
    requests = [
        ("/tenant", {"peer": peer, "tenant": tenant})
        for tenant, peer in [("a", OTHER), ("a", "192.0.2.1"), ("a", "192.0.2.2"), ("b", OTHER)]
    ]
    assert await statuses(ask, *requests) == [200, 200, 429, 200]


async def test_websocket_is_refused_too(app):
    with TestClient(app, base_url="https://testserver") as client:
        for _ in range(2):
            with client.websocket_connect("/api/probe/socket", headers={"origin": "https://testserver"}):
                pass
        with (
            pytest.raises(WebSocketDenialResponse) as caught,
            client.websocket_connect("/api/probe/socket", headers={"origin": "https://testserver"}),
        ):
            pass
    assert caught.value.status_code == 429


async def test_bad_rule_fails_when_the_route_is_declared():
    with pytest.raises(AppKitError, match="'sometimes' is not a rate limit"):
        limit("sometimes")


async def test_limit_adds_nothing_to_the_openapi(app):
    assert "parameters" not in app.openapi()["paths"]["/api/probe/plain"]["get"]


@pytest.fixture(params=["x_forwarded_for:{}", "x_forwarded_for:192.0.2.1, {}", "forwarded:for={}", "x_real_ip:{}"])
def forge(request) -> Callable[[int], dict[str, str]]:
    """A header that says the client is somebody else, each time."""
    name, _, value = request.param.partition(":")
    return lambda number: {name: value.format(f"203.0.113.{number}")}


async def test_no_header_changes_the_key_without_proxies(ask, forge):
    assert await statuses(ask, *[("/plain", forge(number)) for number in range(3)]) == [200, 200, 429]


@pytest.mark.parametrize("proxies", [("10.0.0.0/8",)])
async def test_no_header_changes_the_key_unless_a_proxy_sends_it(ask, forge, proxies):
    assert await statuses(ask, *[("/plain", forge(number)) for number in range(3)]) == [200, 200, 429]


@pytest.mark.parametrize("proxies", [("10.0.0.0/8",)])
async def test_only_what_the_proxy_wrote_changes_the_key(ask, proxies):
    def through_proxy(number: int, client: str) -> tuple[str, dict[str, str]]:
        return "/plain", {"peer": "10.0.0.1", "x_forwarded_for": f"203.0.113.{number}, {client}"}

    requests = [through_proxy(number, "198.51.100.7") for number in range(3)]
    assert await statuses(ask, *requests, through_proxy(4, "198.51.100.8")) == [200, 200, 429, 200]


@pytest.mark.parametrize("proxies", [("127.0.0.1", "10.0.0.0/8")])
async def test_repeated_forwarded_headers_are_one_list(app, proxies):
    """A proxy may add a line of its own, after the client's."""
    forwarded = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "198.51.100.7")]
    transport = ASGITransport(app, client=("10.0.0.1", 5000))
    async with AsyncClient(transport=transport, base_url="https://testserver") as client:
        assert (await client.get("/api/probe/address", headers=forwarded)).json() == "198.51.100.7"


@pytest.mark.parametrize(("proxies", "expected"), [((), "127.0.0.1"), (("127.0.0.1",), "198.51.100.7")])
async def test_unix_socket_counts_as_localhost(app, proxies, expected):
    async def without_client(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "client": None}, receive, send)

    async with AsyncClient(transport=ASGITransport(without_client), base_url="https://testserver") as client:
        answer = await client.get("/api/probe/address", headers={"X-Forwarded-For": "198.51.100.7"})
    assert answer.json() == expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("198.51.100.7", "", "198.51.100.7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "192.0.2.1, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "10.9.9.9, 10.0.0.2", "10.9.9.9"),
        ("10.0.0.1", "192.0.2.1, unknown", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "192.0.2.1,", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("fd00::1", "198.51.100.7", "198.51.100.7"),
        ("2001:db8::1", "198.51.100.7", "2001:db8::1"),
        ("testclient", "198.51.100.7", "testclient"),
    ],
)
def test_address_is_the_last_that_no_trusted_proxy_has(peer: str, forwarded: str, address: str):
    trusted = HTTPSettings.model_validate({"trusted_proxies": ["10.0.0.0/8", "fd00::/8"]}).trusted_proxies
    assert resolve_address(peer, forwarded, trusted) == address


@given(st.text())
def test_client_cannot_forge_its_address(text: str):
    trusted = HTTPSettings.model_validate({"trusted_proxies": ["10.0.0.0/8"]}).trusted_proxies
    assert resolve_address("10.0.0.1", f"{text}, 198.51.100.7, 10.0.0.2", trusted) == "198.51.100.7"
    assert resolve_address("198.51.100.7", text, trusted) == "198.51.100.7"


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "everybody", "10.0.0.1/8"])
def test_invalid_trusted_proxies_are_refused(network: str):
    with pytest.raises(ValidationError, match="HTTPSettings"):
        HTTPSettings.model_validate({"trusted_proxies": [network]})


async def test_missing_trusted_proxies_setting_is_logged_once(ask, caplog):
    """And only of who may be a proxy: anybody on the internet can send a header."""
    for peer in ("93.184.216.34", "172.17.0.2", "172.17.0.3"):
        await ask("/plain", peer=peer, x_forwarded_for="198.51.100.7")
    (message,) = [record.getMessage() for record in caplog.records if record.name == "appkit.api.client_address"]
    assert message.startswith("172.17.0.2 sent X-Forwarded-For, but HTTP_TRUSTED_PROXIES is not set.")


async def test_kits_with_one_redis_share_limits_and_cache(settings, kit, redis_url, redis_prefix):
    """What `REDIS_URL` is for: two instances are one."""
    shared = settings.model_copy(update={"app_name": redis_prefix, "redis": RedisSettings(url=redis_url)})
    one, other = AppKit(shared, discover=False), AppKit(shared, discover=False)
    async with one.lifespan(work=False), other.lifespan(work=False):
        await one.limiter.hit("1/minute", "signin")
        with pytest.raises(TooManyRequestsException):
            await other.limiter.hit("1/minute", "signin")
        await one.cache.set("key", 1, ttl=60)
        assert await other.cache.get("key", int) == 1
        await other.cache.delete("key")
        assert await one.cache.get("key", int) is None
