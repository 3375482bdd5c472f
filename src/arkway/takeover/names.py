"""The host names and addresses that a certificate is for, and the limits that a certificate authority puts on them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from cryptography import x509

from arkway.core.errors import Misconfigured

DEFAULT_HOSTS = ("localhost", "127.0.0.1", "::1")

# Names and addresses that lead nowhere outside a private network (RFC 1918, 4193, 6761, 6762, 8375, 9476).
LOCAL_DOMAINS = ("localhost", "local", "internal", "lan", "home.arpa", "test", "arkway")
LOCAL_NETWORKS = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)

Name = x509.DNSName | x509.IPAddress

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
DOMAIN_LENGTH_MAX = 253


def name_of(host: str) -> Name:
    """An address, or a host name in lower case; ``*.`` may stand for its first label. Raises Misconfigured."""
    text = host.strip().strip("[]").rstrip(".").lower()
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        pass
    try:
        ascii_text = text if text.isascii() else text.encode("idna").decode()
    except UnicodeError:
        ascii_text = ""
    if len(ascii_text) > DOMAIN_LENGTH_MAX or not _DOMAIN.fullmatch(ascii_text):
        raise Misconfigured(
            f"`{host[:64]}` is neither a host name nor an address; give it without scheme, port and path, "
            "such as ark.example.com or 192.168.1.20"
        )
    return x509.DNSName(ascii_text)


def names_of(hosts: Iterable[str]) -> tuple[Name, ...]:
    """Each name once, in the order given. Raises Misconfigured."""
    return tuple(dict.fromkeys(map(name_of, hosts)))


def text_of(name: Name) -> str:
    return str(name.value)


def constraints(names: Sequence[Name]) -> x509.NameConstraints:
    """What an authority made for these names may ever vouch for: local names and addresses, and these.

    Someone who steals the authority's key cannot pass for any other host to those who trust it (RFC 5280 §4.2.1.10).
    """
    domains = [text_of(name).removeprefix("*.") for name in names if isinstance(name, x509.DNSName)]
    addresses = [name.value for name in names if isinstance(name, x509.IPAddress)]
    alone = [str(ip_network(a)) for a in addresses if isinstance(a, IPv4Address | IPv6Address) and not _is_local(a)]
    return x509.NameConstraints(
        permitted_subtrees=[
            *(x509.DNSName(domain) for domain in dict.fromkeys([*LOCAL_DOMAINS, *domains])),
            *(x509.IPAddress(ip_network(network)) for network in dict.fromkeys([*LOCAL_NETWORKS, *alone])),
        ],
        excluded_subtrees=None,
    )


def only(names: Sequence[Name]) -> x509.NameConstraints:
    """What an authority made for these names and nothing else may vouch for; addresses not named are forbidden.

    A permitted host name covers the names below it too: there is no way to say otherwise (RFC 5280 §4.2.1.10).
    """
    addresses = [ip_network(name.value) for name in names if isinstance(name, x509.IPAddress)]
    nowhere = [] if addresses else [x509.IPAddress(ip_network(all_)) for all_ in ("0.0.0.0/0", "::/0")]
    return x509.NameConstraints(
        permitted_subtrees=[
            *(name for name in names if isinstance(name, x509.DNSName)),
            *map(x509.IPAddress, addresses),
        ],
        excluded_subtrees=nowhere or None,
    )


def permits(limits: x509.NameConstraints, name: Name) -> bool:
    """Whether an authority with these limits may vouch for the name."""
    permitted = limits.permitted_subtrees or []
    if isinstance(name, x509.DNSName):
        domain = name.value.removeprefix("*.")
        bases = [tree.value for tree in permitted if isinstance(tree, x509.DNSName)]
        return any(domain == base or domain.endswith(f".{base}") for base in bases)
    networks = [tree.value for tree in permitted if isinstance(tree, x509.IPAddress)]
    return any(name.value in network for network in networks if not isinstance(network, IPv4Address | IPv6Address))


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    networks = map(ip_network, LOCAL_NETWORKS)
    return any(address in network for network in networks if network.version == address.version)
