"""Which addresses may be dialed for a caller: those of the public internet, and what the operator adds.

`ipaddress` alone does not tell: it takes NAT64 and 6to4 forms of private addresses for global ones, and multicast,
site-local and, in some versions, shared (RFC 6598) addresses too. The tables are the IANA special-purpose registries
(RFC 6890 and its updates).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from arkway.core.errors import Misconfigured

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_CLOSED_V4 = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers, and by clouds for what is theirs
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_OPEN_V6 = IPv6Network("2000::/3")
"""The only block of global unicast addresses: loopback, mapped, NAT64, unique and site-local, multicast lie outside."""
_CLOSED_V6 = tuple(
    IPv6Network(each)
    for each in (
        "2001::/23",  # protocol assignments; Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: any IPv4 address
        "3fff::/20",  # documentation
    )
)
_ISATAP = (0x00005EFE, 0x02005EFE)
"""The upper half of an interface identifier that holds an IPv4 address (RFC 5214)."""
_METADATA = frozenset(
    ip_address(each)
    for each in (
        "169.254.169.254",  # most clouds
        "169.254.169.253",
        "169.254.170.2",  # credentials of containers
        "169.254.170.23",
        "100.96.0.96",  # Volcengine
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure: lies among public ones
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    )
)
"""Where clouds tell a machine its credentials: never dialed, whatever is allowed besides."""


class Allowed:
    """The rule. ``networks`` are dialed too, though they are not public (but never where clouds keep credentials)."""

    def __init__(self, networks: Iterable[str] = (), *, own: Callable[[Address], bool] | None = None) -> None:
        """``own`` tells an address of this machine itself. Raises Misconfigured for what is no network."""
        self._networks = tuple(_network(each) for each in networks)
        self._own = own or is_own

    def address(self, text: str) -> str | None:
        """The address to dial, in its plain form; None where it must not be."""
        address = plain(text)
        if address is None or address in _METADATA:
            return None
        if any(address in network for network in self._networks):
            return str(address)
        return str(address) if is_public(address) and not self._own(address) else None


def plain(text: str) -> Address | None:
    """What the text means as an address, an IPv4 one where it is mapped into IPv6; None for scoped ones and no ones."""
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_public(address: Address) -> bool:
    """Is it an address that anybody on the internet could dial?"""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    if address not in _OPEN_V6 or any(address in network for network in _CLOSED_V6):
        return False
    return (int(address) >> 32 & 0xFFFFFFFF) not in _ISATAP


def is_own(address: Address) -> bool:
    """Is it this machine's? A datagram socket that is connected there, which sends nothing, is then there itself."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return plain(probe.getsockname()[0].partition("%")[0]) == address
    except OSError:
        return False


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise Misconfigured(
            f"the setting `fetch.networks` has {text[:64]!r}, which is no network; write it like 10.1.0.0/16, "
            "with no bit set behind the prefix"
        ) from None
