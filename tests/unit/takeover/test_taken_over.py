"""The hosts that are taken over, and an authority that can vouch for these alone."""

from __future__ import annotations

import ssl
import time
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509

from arkway.core.errors import Misconfigured
from arkway.takeover.authority import describe, files, initialise, initialise_takeover, takeover_files
from arkway.takeover.hosts import KNOWN, VENDOR_HOSTS, taken_over
from arkway.takeover.names import names_of

NOW_S = int(time.time())


def test_every_known_host_says_where_it_is_from() -> None:
    assert len(set(VENDOR_HOSTS)) == len(KNOWN)
    assert all(each.serves and each.source for each in KNOWN)


def test_more_hosts_can_be_named_and_none_is_dropped() -> None:
    assert taken_over(["Ark.Example.COM", VENDOR_HOSTS[0]]) == (*VENDOR_HOSTS, "ark.example.com")


@pytest.mark.parametrize("host", ["*.volces.com", "https://x", "x:443", ""])
def test_a_pattern_is_no_host(host: str) -> None:
    with pytest.raises(Misconfigured):
        taken_over([host])


def test_the_authority_is_limited_to_these_hosts(tmp_path: Path) -> None:
    initialise_takeover(tmp_path, taken_over(), NOW_S)
    place = takeover_files(tmp_path)
    certificate = x509.load_pem_x509_certificate(place.ca.read_bytes())
    limits = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert [tree.value for tree in limits.value.permitted_subtrees or ()] == list(VENDOR_HOSTS)
    assert [str(tree.value) for tree in limits.value.excluded_subtrees or ()] == ["0.0.0.0/0", "::/0"]
    assert describe(place.server).names == VENDOR_HOSTS


def test_it_is_apart_from_the_one_of_the_servers_own_https(tmp_path: Path) -> None:
    initialise(tmp_path, [], NOW_S)
    initialise_takeover(tmp_path, taken_over(), NOW_S)
    own, taken = files(tmp_path), takeover_files(tmp_path)
    assert own.ca.read_bytes() != taken.ca.read_bytes()
    assert not set(describe(own.server).names) & set(describe(taken.server).names)


def handshake(place_of: Path, certificate: Path, key: Path, name: str) -> None:
    """A client that trusts this authority alone, and a server that shows this certificate, in memory."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=place_of)
    server.load_cert_chain(certificate, key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(3):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()


@pytest.mark.parametrize("name", ["example.com", "localhost", "127.0.0.1"])
def test_what_its_stolen_key_signs_for_another_host_is_refused(tmp_path: Path, name: str) -> None:
    made, forged = tmp_path / "made", tmp_path / "forged"
    initialise_takeover(made, taken_over(), NOW_S)
    place, thief = takeover_files(made), takeover_files(forged)
    handshake(place.ca, place.server, place.server_key, VENDOR_HOSTS[0])
    forge(made, forged, name)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"permitted subtree|excluded subtree"):
        handshake(place.ca, thief.server, thief.server_key, name)


def forge(made: Path, forged: Path, name: str) -> None:
    """A certificate that the authority's key signs as if there were no limits."""
    from datetime import UTC, datetime

    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    from arkway.takeover import authority

    place, thief = takeover_files(made), takeover_files(forged)
    held = authority._load_authority(place)
    assert held is not None
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority._issue(held, key, names_of([name]), datetime.fromtimestamp(NOW_S, UTC))
    thief.server.parent.mkdir(parents=True)
    thief.server.write_bytes(issued.public_bytes(Encoding.PEM))
    thief.server_key.write_bytes(authority._key_pem(key))


def test_a_host_that_it_was_not_made_for_needs_a_new_one(tmp_path: Path) -> None:
    initialise_takeover(tmp_path, taken_over(), NOW_S)
    with pytest.raises(Misconfigured, match=r"start --new-ca --host ark\.example\.com` makes") as caught:
        initialise_takeover(tmp_path, taken_over(["ark.example.com"]), NOW_S)
    assert "tls init" not in caught.value.message
    done = initialise_takeover(tmp_path, taken_over(["ark.example.com"]), NOW_S, force=True)
    assert (done.made_ca, done.server.names[-1]) == (True, "ark.example.com")


def test_done_again_it_keeps_what_there_is(tmp_path: Path) -> None:
    first = initialise_takeover(tmp_path, taken_over(), NOW_S)
    again = initialise_takeover(tmp_path, taken_over(), NOW_S)
    assert (again.made_ca, again.made_server, again.ca) == (False, False, first.ca)
