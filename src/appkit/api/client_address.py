"""The client's IP address, behind trusted proxies too: used for rate limits, logs and sign-in sessions."""

import logging
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.requests import HTTPConnection

from appkit.api.dependencies import app_of
from appkit.repository.context import AppContext

Network = IPv4Network | IPv6Network

_logger = logging.getLogger(__name__)


def client_address(connection: HTTPConnection) -> str:
    """The client's IP address, for rate limits and logs.

    It is the peer of the socket. If the peer is in `HTTP_TRUSTED_PROXIES`, it is the last address in
    `X-Forwarded-For` that isn't a trusted proxy: clients can forge everything before that one.
    """
    context = app_of(connection)
    peer = connection.client.host if connection.client else "127.0.0.1"
    forwarded = ",".join(connection.headers.getlist("x-forwarded-for"))
    trusted = context.settings.http.trusted_proxies
    if forwarded and not trusted and (address := _parse(peer)) and address.is_private:
        _warn(context, peer)
    return resolve_address(peer, forwarded, trusted)


def resolve_address(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """The first address that isn't a trusted proxy's, from the socket's peer backwards through `X-Forwarded-For`.

    Args:
        peer: The address of the socket's peer.
        forwarded: `X-Forwarded-For`: each proxy appends the address of the machine that connected to this proxy.
        trusted: Networks of the trusted proxies.
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
    """Marks in `AppContext.resources` that this app has logged the warning."""


def _warn(context: AppContext, peer: str) -> None:
    if _Warned not in context.resources:
        context.resources[_Warned] = peer
        _logger.warning(
            "%s sent X-Forwarded-For, but HTTP_TRUSTED_PROXIES is not set. If it is your proxy, all clients behind it "
            "share one rate limit: add it to HTTP_TRUSTED_PROXIES.",
            peer,
        )


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address with or without a port; IPv4 mapped into IPv6 becomes IPv4."""
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
