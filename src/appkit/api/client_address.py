"""Where a request comes from, which is not for the request to say."""

import logging
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.requests import HTTPConnection

from appkit.repository.context import AppContext

Network = IPv4Network | IPv6Network

_logger = logging.getLogger(__name__)


def client_address(connection: HTTPConnection) -> str:
    """The IP address of whoever is behind our own proxies: the one to limit, and to write down.

    It is the other end of the socket, unless that is in `HTTP_TRUSTED_PROXIES`: then the last address in
    `X-Forwarded-For` that isn't. What stands before it anybody may have written.
    """
    context: AppContext = connection.app.state.appkit
    peer = connection.client.host if connection.client else "127.0.0.1"
    forwarded = ",".join(connection.headers.getlist("x-forwarded-for"))
    trusted = context.settings.http.trusted_proxies
    if forwarded and not trusted and (address := _parse(peer)) and address.is_private:
        _warn(context, peer)
    return resolve_address(peer, forwarded, trusted)


def resolve_address(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """The first address that is not a trusted proxy's, from the socket's other end backwards.

    Args:
        peer: The socket's other end.
        forwarded: `X-Forwarded-For`, to which each proxy appends whom it was asked by.
        trusted: Whose entries are believed.
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
    """Under this, an app remembers that it said so."""


def _warn(context: AppContext, peer: str) -> None:
    if _Warned not in context.resources:
        context.resources[_Warned] = peer
        _logger.warning(
            "%s sends X-Forwarded-For, and HTTP_TRUSTED_PROXIES is not set. If it is a proxy of yours, "
            "everybody behind it counts as one client.",
            peer,
        )


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without a port; IPv4 that was mapped to IPv6 as IPv4."""
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
