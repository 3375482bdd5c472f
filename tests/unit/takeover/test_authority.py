"""The certificate authority: what it makes, what it keeps, and what it refuses to do."""

from __future__ import annotations

import stat
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from arkway.core.errors import Misconfigured
from arkway.takeover.authority import Files, describe, files, initialise, renew
from arkway.takeover.listening import server_context
from arkway.takeover.names import name_of

NOW_S = 1_800_000_000
DAY_S = 86_400


def contents(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (home / "tls").iterdir()}


def leaf(place: Files) -> x509.Certificate:
    return x509.load_pem_x509_certificate(place.server.read_bytes())


def verify(place: Files, host: str, now_s: int = NOW_S) -> None:
    """As a strict client does it. Raises VerificationError."""
    certificate, *above = x509.load_pem_x509_certificates(place.server.read_bytes())
    store = Store([x509.load_pem_x509_certificate(place.ca.read_bytes())])
    at = datetime.fromtimestamp(now_s, UTC)
    PolicyBuilder().store(store).time(at).build_server_verifier(name_of(host)).verify(certificate, above)


def test_it_makes_what_a_server_needs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = initialise(home, ["box.example.com", "203.0.113.7"], NOW_S)
    assert (done.made_ca, done.made_server) == (True, True)
    assert set(contents(home)) == {"ca.pem", "ca.key", "server.pem", "server.key"}
    assert done.server.names == ("localhost", "127.0.0.1", "::1", "box.example.com", "203.0.113.7")
    place = files(home)
    for host in done.server.names:
        verify(place, host)
    assert server_context(place.server, place.server_key).get_ca_certs() == []


def test_keys_can_be_read_by_their_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    initialise(home, [], NOW_S)
    place = files(home)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (home, home / "tls", place.ca_key, place.server_key)]
    assert modes == [0o700, 0o700, 0o600, 0o600]


def test_the_server_certificate_is_one_that_every_client_takes(tmp_path: Path) -> None:
    initialise(tmp_path, [], NOW_S)
    certificate = leaf(files(tmp_path))
    extensions = certificate.extensions
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days <= 825
    assert certificate.not_valid_before_utc.timestamp() < NOW_S
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    above = x509.load_pem_x509_certificate(files(tmp_path).ca.read_bytes()).extensions
    assert above.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    identifier = above.get_extension_for_class(x509.SubjectKeyIdentifier).value.key_identifier
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == identifier


def test_the_authority_lasts_ten_years_and_openssl_finds_nothing_wrong(tmp_path: Path) -> None:
    initialise(tmp_path, [], NOW_S)
    place = files(tmp_path)
    assert 3650 * DAY_S <= describe(place.ca).not_after_s - NOW_S <= 3653 * DAY_S
    command = ["openssl", "verify", "-x509_strict", "-attime", str(NOW_S), "-CAfile", str(place.ca), str(place.server)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_done_again_it_changes_nothing(tmp_path: Path) -> None:
    initialise(tmp_path, ["box.local"], NOW_S)
    before = contents(tmp_path)
    done = initialise(tmp_path, [], NOW_S + DAY_S)
    assert (done.made_ca, done.made_server) == (False, False)
    assert contents(tmp_path) == before
    assert "box.local" in done.server.names


def test_a_further_name_keeps_the_authority_the_key_and_the_other_names(tmp_path: Path) -> None:
    initialise(tmp_path, ["one.local"], NOW_S)
    before = contents(tmp_path)
    done = initialise(tmp_path, ["two.local"], NOW_S)
    after = contents(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"server.pem"}
    assert {"one.local", "two.local"} < set(done.server.names)
    verify(files(tmp_path), "two.local")


def test_a_name_beyond_the_authoritys_limits_is_refused_and_everything_kept(tmp_path: Path) -> None:
    initialise(tmp_path, ["one.local"], NOW_S)
    before = contents(tmp_path)
    with pytest.raises(Misconfigured, match=r"tls init --force --host one\.local --host ark\.cn-beijing\.volces\.com"):
        initialise(tmp_path, ["ark.cn-beijing.volces.com"], NOW_S)
    assert contents(tmp_path) == before


def forged(place: Files, host: str) -> bytes:
    """What somebody who has stolen the authority's key makes."""
    key = load_pem_private_key(place.ca_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    authority, honest = x509.load_pem_x509_certificate(place.ca.read_bytes()), leaf(place)
    builder = (
        x509.CertificateBuilder()
        .subject_name(honest.subject)
        .issuer_name(authority.subject)
        .public_key(honest.public_key())
        .serial_number(1)
        .not_valid_before(honest.not_valid_before_utc)
        .not_valid_after(honest.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([name_of(host)]), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("host", "taken"),
    [("box.local", True), ("10.1.2.3", True), ("ark.cn-beijing.volces.com", False), ("8.8.8.8", False)],
)
def test_clients_hold_the_authority_to_its_limits_whoever_has_its_key(tmp_path: Path, host: str, taken: bool) -> None:
    initialise(tmp_path, [], NOW_S)
    place = files(tmp_path)
    (tmp_path / "forged.pem").write_bytes(forged(place, host))
    command = ["openssl", "verify", "-attime", str(NOW_S), "-CAfile", str(place.ca), str(tmp_path / "forged.pem")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is taken
    assert ("permitted subtree violation" in done.stderr) is not taken


def test_a_host_that_was_named_when_the_authority_was_made_is_vouched_for(tmp_path: Path) -> None:
    initialise(tmp_path, ["ark.cn-beijing.volces.com"], NOW_S)
    verify(files(tmp_path), "ark.cn-beijing.volces.com")
    with pytest.raises(VerificationError):
        verify(files(tmp_path), "open.volcengineapi.com")


def test_force_makes_everything_anew(tmp_path: Path) -> None:
    initialise(tmp_path, ["one.local"], NOW_S)
    before = contents(tmp_path)
    done = initialise(tmp_path, ["ark.example.com"], NOW_S, force=True)
    after = contents(tmp_path)
    assert all(after[name] != before[name] for name in before)
    assert "one.local" not in done.server.names
    verify(files(tmp_path), "ark.example.com")


def test_a_certificate_is_renewed_in_its_last_month_with_its_key_and_its_names(tmp_path: Path) -> None:
    initialise(tmp_path, ["box.local"], NOW_S)
    place, before = files(tmp_path), contents(tmp_path)
    assert not renew(tmp_path, NOW_S + 789 * DAY_S)
    assert contents(tmp_path) == before
    late_s = NOW_S + 791 * DAY_S
    assert renew(tmp_path, late_s)
    assert {name for name, content in contents(tmp_path).items() if content != before[name]} == {"server.pem"}
    verify(place, "box.local", late_s + 700 * DAY_S)
    assert not renew(tmp_path, late_s)


def test_init_renews_as_well(tmp_path: Path) -> None:
    initialise(tmp_path, [], NOW_S)
    done = initialise(tmp_path, [], NOW_S + 800 * DAY_S)
    assert (done.made_ca, done.made_server) == (False, True)


def test_no_certificate_outlasts_its_authority(tmp_path: Path) -> None:
    initialise(tmp_path, [], NOW_S)
    assert renew(tmp_path, NOW_S + 3000 * DAY_S)
    assert describe(files(tmp_path).server).not_after_s == describe(files(tmp_path).ca).not_after_s


def test_an_authority_at_its_end_says_so_and_is_kept(tmp_path: Path) -> None:
    initialise(tmp_path, [], NOW_S)
    before = contents(tmp_path)
    with pytest.raises(Misconfigured, match="init --force"):
        initialise(tmp_path, [], NOW_S + 3640 * DAY_S)
    assert not renew(tmp_path, NOW_S + 3640 * DAY_S)
    assert contents(tmp_path) == before


def test_without_the_authoritys_key_nothing_is_renewed_and_nothing_breaks(tmp_path: Path) -> None:
    initialise(tmp_path, [], NOW_S)
    files(tmp_path).ca_key.unlink()
    assert not renew(tmp_path, NOW_S + 810 * DAY_S)
    assert not renew(tmp_path / "nothing here", NOW_S)


@pytest.mark.parametrize("name", ["server.pem", "server.key"])
def test_half_of_a_server_certificate_is_completed(tmp_path: Path, name: str) -> None:
    initialise(tmp_path, [], NOW_S)
    (tmp_path / "tls" / name).unlink()
    assert initialise(tmp_path, [], NOW_S).made_server
    server_context(files(tmp_path).server, files(tmp_path).server_key)
    verify(files(tmp_path), "localhost")


def test_a_server_key_that_does_not_belong_gets_a_certificate_of_its_own(tmp_path: Path) -> None:
    other = tmp_path / "other"
    initialise(tmp_path, [], NOW_S)
    initialise(other, [], NOW_S)
    files(tmp_path).server_key.write_bytes(files(other).server_key.read_bytes())
    assert initialise(tmp_path, [], NOW_S).made_server
    server_context(files(tmp_path).server, files(tmp_path).server_key)


def remove(path: Path) -> None:
    path.unlink()


def spoil(path: Path) -> None:
    path.write_text("-----BEGIN NOTHING-----")


def expose(path: Path) -> None:
    path.chmod(0o640)


def replace(path: Path) -> None:
    initialise(path.parent / "other", [], NOW_S)
    path.write_bytes((path.parent / "other" / "tls" / path.name).read_bytes())


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("ca.pem", remove, "is missing; restore it"),
        ("ca.key", remove, "is missing; restore it"),
        ("ca.pem", spoil, "holds no certificate"),
        ("ca.key", spoil, "holds no private key"),
        ("ca.key", expose, "chmod 600"),
        ("server.key", expose, "chmod 600"),
        ("ca.key", replace, "is not the key of"),
    ],
)
def test_a_damaged_authority_is_never_replaced_unasked(
    tmp_path: Path, name: str, damage: Callable[[Path], None], said: str
) -> None:
    initialise(tmp_path, [], NOW_S)
    damage(tmp_path / "tls" / name)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "tls").glob("*.*")}
    with pytest.raises(Misconfigured, match=said):
        initialise(tmp_path, ["box.local"], NOW_S)
    assert {path.name: path.read_bytes() for path in (tmp_path / "tls").glob("*.*")} == kept
    if said != "chmod 600":
        assert initialise(tmp_path, [], NOW_S, force=True).made_ca


def test_two_that_start_at_once_agree_on_one_authority(tmp_path: Path) -> None:
    ready = threading.Barrier(6)
    seen: list[tuple[str, bool]] = []

    def start() -> None:
        ready.wait()
        done = initialise(tmp_path, [], NOW_S)
        seen.append((done.ca.sha256, done.made_ca))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({fingerprint for fingerprint, _ in seen}) == 1
    assert [made for _, made in seen].count(True) == 1
    assert set(contents(tmp_path)) == {"ca.pem", "ca.key", "server.pem", "server.key"}


def test_a_home_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="cannot be made"):
        initialise(tmp_path / "file", [], NOW_S)
