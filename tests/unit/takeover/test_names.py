"""Names that a certificate can be for, and the limits put on an authority."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from cryptography import x509

from arkway.core.errors import Misconfigured
from arkway.takeover.names import constraints, name_of, names_of, permits, text_of


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", "localhost"),
        ("Ark.Example.COM.", "ark.example.com"),
        (" box ", "box"),
        ("*.example.com", "*.example.com"),
        ("方舟.example.com", "xn--nfv154d.example.com"),
        ("my_box.local", "my_box.local"),
    ],
)
def test_a_host_name_is_put_as_certificates_want_it(host: str, expected: str) -> None:
    assert name_of(host) == x509.DNSName(expected)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "2001:DB8::0:1"])
def test_an_address_is_an_address_and_no_host_name(host: str) -> None:
    assert name_of(host) == x509.IPAddress(ip_address(host.strip("[]")))


@pytest.mark.parametrize(
    "host",
    ["", ".", "https://example.com", "example.com:8443", "a..b", "-a.com", "a-", "a b", "*", "*.*.com", "a.*", "x" * 64,
     ".".join(["a" * 60] * 5), "10.0.0.0/8"],
)  # fmt: skip
def test_what_is_neither_is_refused_with_an_example(host: str) -> None:
    with pytest.raises(Misconfigured, match=r"ark\.example\.com"):
        name_of(host)


def test_a_name_given_twice_is_there_once() -> None:
    assert [text_of(name) for name in names_of(["b", "A", "a", "::1", "[::1]"])] == ["b", "a", "::1"]


@pytest.mark.parametrize(
    ("host", "permitted"),
    [
        ("localhost", True),
        ("printer.local", True),
        ("arkway", True),
        ("ark.example.com", True),
        ("deeper.ark.example.com", True),
        ("*.ark.example.com", True),
        ("w.wild.example.com", True),
        ("203.0.113.7", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("192.168.7.7", True),
        ("fd00::1", True),
        ("example.com", False),
        ("notark.example.com", False),
        ("ark.example.com.evil.com", False),
        ("xlocal", False),
        ("ark.cn-beijing.volces.com", False),
        ("203.0.113.8", False),
        ("8.8.8.8", False),
        ("2001:db8::1", False),
    ],
)
def test_an_authority_may_vouch_for_local_names_and_those_it_was_made_for(host: str, permitted: bool) -> None:
    limits = constraints(names_of(["ark.example.com", "*.wild.example.com", "203.0.113.7"]))
    assert permits(limits, name_of(host)) is permitted
