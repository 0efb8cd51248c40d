"""The client's IP address, also behind trusted proxies."""

import logging
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.requests import HTTPConnection

from appkit.api.dependencies import app_of
from appkit.repository.context import AppContext

_logger = logging.getLogger(__name__)


def client_address(connection: HTTPConnection) -> str:
    """The client's IP address, for rate limits and logs.

    If a request comes from one of `HTTP_TRUSTED_PROXIES`, this is the last IP address in `X-Forwarded-For` that isn't a
    trusted proxy. Clients can forge everything before this IP address.
    """
    context = app_of(connection)
    peer = connection.client.host if connection.client else "127.0.0.1"
    forwarded = ",".join(connection.headers.getlist("x-forwarded-for"))
    trusted = context.settings.http.trusted_proxies
    if forwarded and not trusted and (address := _parse(peer)) and address.is_private:
        _warn(context, peer)
    return resolve_address(peer, forwarded, trusted)


def resolve_address(peer: str, forwarded: str, trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """The first IP address that isn't a trusted proxy, in this order: `peer`, then `forwarded` from its end.

    Each proxy appends to `X-Forwarded-For` the IP address of the machine that connected to the proxy.
    """
    found = _parse(peer)
    if found is None:
        return peer
    for hop in reversed(forwarded.split(",")):
        if not any(found in network for network in trusted) or (before := _parse(hop)) is None:
            break
        found = before
    return str(found)


class _Warned:
    """The key in `AppContext.resources` that marks the warning as logged."""


def _warn(context: AppContext, peer: str) -> None:
    if _Warned not in context.resources:
        context.resources[_Warned] = peer
        _logger.warning(
            "%s sent X-Forwarded-For, but HTTP_TRUSTED_PROXIES is not set. If this is your proxy, add its IP "
            "address to HTTP_TRUSTED_PROXIES. Until then, all clients behind it share one rate limit.",
            peer,
        )


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an IP address with or without a port. IPv4 mapped into IPv6 becomes IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
