"""Which addresses may be dialed for a caller."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from arkway.core.errors import Misconfigured
from arkway.fetching.addresses import Address, Allowed, is_own, is_public

PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.216.34", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700::1111")


def nobodys(_: Address) -> bool:
    return False


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_dialed(text: str) -> None:
    assert Allowed(own=nobodys).address(text) == text


def test_this_machines_own_public_address_is_not() -> None:
    assert Allowed(own=lambda address: str(address) == "8.8.8.8").address("8.8.8.8") is None
    assert Allowed(["8.8.8.0/24"], own=lambda _: True).address("8.8.8.8") == "8.8.8.8"


def test_own_addresses_are_found() -> None:
    assert is_own(ip_address("127.0.0.1"))
    assert is_own(ip_address("127.9.9.9")) or not is_public(ip_address("127.9.9.9"))
    assert not is_own(ip_address("93.184.216.34"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        assert is_own(ip_address(probe.getsockname()[0]))


def test_the_operators_networks_are_dialed_too() -> None:
    allowed = Allowed(["10.1.0.0/16", "fd12::/64"], own=nobodys)
    assert allowed.address("10.1.2.3") == "10.1.2.3"
    assert allowed.address("fd12:0::7") == "fd12::7"
    assert allowed.address("::ffff:10.1.2.3") == "10.1.2.3"
    assert allowed.address("10.2.0.1") is None


@pytest.mark.parametrize(
    "text", ["169.254.169.254", "100.100.100.200", "100.96.0.96", "168.63.129.16", "fd00:ec2::254"]
)
def test_credentials_of_a_cloud_are_never_dialed(text: str) -> None:
    assert Allowed(["0.0.0.0/0", "::/0"], own=nobodys).address(text) is None
    assert Allowed(["0.0.0.0/0"], own=nobodys).address(f"::ffff:{text}" if "." in text else text) is None


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "fe80::1%eth0", "::ffff:8.8.8.8%1", "8.8.8.8/32"])
def test_what_is_no_address_is_not_dialed(text: str) -> None:
    assert Allowed(["0.0.0.0/0", "::/0"], own=nobodys).address(text) is None


def test_a_mapped_address_is_the_one_that_it_maps() -> None:
    assert Allowed(own=nobodys).address("::ffff:8.8.8.8") == "8.8.8.8"


@pytest.mark.parametrize("text", ["10.1.0.1/16", "ten", "10.0.0.0/33"])
def test_networks_have_to_be_some(text: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        Allowed([text])
    assert "fetch.networks" in refused.value.message
