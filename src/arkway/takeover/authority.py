"""Certificate authorities of one data directory, each with the server certificate it issues.

One lies in ``<home>/tls``, for the server's own HTTPS, and one in ``<home>/takeover``, for hosts of the vendor's alone.
In either, ``ca.pem`` is what clients are told to trust, ``ca.key`` makes certificates and is needed by nobody else,
``server.pem`` (with the authority's certificate after it) and ``server.key`` are what is shown to clients. Keys are of
the curve P-256 and only their owner can read them.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from arkway.core.errors import Misconfigured
from arkway.files import replace
from arkway.takeover.hosts import VENDOR_HOSTS
from arkway.takeover.names import DEFAULT_HOSTS, Name, constraints, names_of, only, permits, text_of

CA_DAYS = 3650
SERVER_DAYS = 820
"""Apple's clients take at most 825 days."""
RENEW_DAYS = 30
CLOCK_SKEW = timedelta(days=1)
"""Certificates count from a day ago: a client's clock may be behind."""

PRIVATE = 0o600
PUBLIC = 0o644


class Files(msgspec.Struct, frozen=True):
    """Where everything lies; ``remake`` is the command that makes it anew."""

    ca: Path
    ca_key: Path
    server: Path
    server_key: Path
    remake: str = "arkway tls init --force"


class Described(msgspec.Struct, frozen=True):
    """A certificate in words. ``names`` are those it is for; an authority's are the subtrees it is limited to."""

    path: str
    subject: str
    names: tuple[str, ...]
    not_before_s: int
    not_after_s: int
    sha256: str


class Initialised(msgspec.Struct, frozen=True):
    """What there is after ``initialise``, and which of the two were made just now."""

    ca: Described
    server: Described
    made_ca: bool
    made_server: bool


class _Authority:
    """The authority's certificate and key, which belong together."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self.key = key

    def lasts(self, now: datetime, days: int) -> bool:
        return self.certificate.not_valid_after_utc - now > timedelta(days=days)

    def vouches_for(self, server: x509.Certificate | None, names: Sequence[Name], now: datetime) -> bool:
        """Whether this is a certificate of ours for all these names that lasts a while."""
        if server is None or not set(names) <= set(_names(server)):
            return False
        try:
            server.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return server.not_valid_after_utc - now > timedelta(days=RENEW_DAYS)


def files(home: Path) -> Files:
    """The files of the server's own HTTPS, whether they are there or not."""
    folder = home / "tls"
    return Files(folder / "ca.pem", folder / "ca.key", folder / "server.pem", folder / "server.key")


def takeover_files(home: Path) -> Files:
    """The files of the takeover, whether they are there or not."""
    folder = home / "takeover"
    remake = "arkway takeover start --new-ca"
    return Files(folder / "ca.pem", folder / "ca.key", folder / "server.pem", folder / "server.key", remake)


def initialise(home: Path, hosts: Iterable[str], now_s: int, *, force: bool = False) -> Initialised:
    """Make what is missing: the authority, and a server certificate for its usual names and ``hosts``.

    An authority that is there is kept, and so are the names its certificate has; ``force`` starts anew. Raises
    Misconfigured.
    """
    asked = names_of([*DEFAULT_HOSTS, *hosts])
    return _initialise(files(home), asked, constraints(asked), now_s, force)


def initialise_takeover(home: Path, hosts: Iterable[str], now_s: int, *, force: bool = False) -> Initialised:
    """As `initialise`, for the takeover: this authority can vouch for ``hosts`` (and names below them) alone.

    Raises Misconfigured, also where the authority that is there was not made for all of them.
    """
    asked = names_of(hosts)
    return _initialise(takeover_files(home), asked, only(asked), now_s, force)


def _initialise(
    place: Files, asked: Sequence[Name], limits: x509.NameConstraints, now_s: int, force: bool
) -> Initialised:
    now = datetime.fromtimestamp(now_s, UTC)
    with _alone(place.ca.parent):
        authority = None if force else _load_authority(place)
        made_ca = authority is None
        if authority is None:
            authority = _make_authority(place, limits, now)
        made_server = _ensure_server(place, authority, asked, now, anew=made_ca)
        return Initialised(describe(place.ca), describe(place.server), made_ca, made_server)


def renew(home: Path, now_s: int) -> bool:
    """Issue the server certificate again where it is about to expire; whether that was done.

    Without the authority's key (it may be kept elsewhere) nothing is done. Raises Misconfigured.
    """
    place, now = files(home), datetime.fromtimestamp(now_s, UTC)
    if not (place.ca_key.exists() and place.ca.exists() and place.server.exists()):
        return False
    with _alone(place.ca.parent):
        authority = _load_authority(place)
        if authority is None or not authority.lasts(now, RENEW_DAYS):
            return False
        return _ensure_server(place, authority, (), now)


def describe(path: Path) -> Described:
    """The first certificate of a file in words. Raises Misconfigured."""
    certificate = _certificate(path)
    return Described(
        path=str(path),
        subject=certificate.subject.rfc4514_string(),
        names=_subtrees(certificate) or tuple(map(text_of, _names(certificate))),
        not_before_s=int(certificate.not_valid_before_utc.timestamp()),
        not_after_s=int(certificate.not_valid_after_utc.timestamp()),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    )


def _ensure_server(
    place: Files, authority: _Authority, asked: Sequence[Name], now: datetime, *, anew: bool = False
) -> bool:
    """A server certificate that has the names asked for beside those it had; whether one was issued."""
    held = None if anew or not place.server.exists() else _certificate(place.server, place)
    names = tuple(dict.fromkeys([*(_names(held) if held else ()), *asked]))
    key = None if anew or not place.server_key.exists() else _private_key(place.server_key, place)
    belongs = held is not None and key is not None and held.public_key() == key.public_key()
    if belongs and authority.vouches_for(held, names, now):
        return False
    _check_names(place, authority, names)
    _check_age(place, authority, now)
    if key is None:
        key = ec.generate_private_key(ec.SECP256R1())
        _write(place.server_key, _key_pem(key), PRIVATE)
    issued = _issue(authority, key, names, now)
    chain = issued.public_bytes(Encoding.PEM) + authority.certificate.public_bytes(Encoding.PEM)
    _write(place.server, chain, PUBLIC)
    return True


def _check_names(place: Files, authority: _Authority, names: Sequence[Name]) -> None:
    limits = _limits(authority.certificate)
    beyond = [text_of(name) for name in names if limits is not None and not permits(limits, name)]
    if beyond:
        known = {*DEFAULT_HOSTS, *VENDOR_HOSTS} if place.remake.startswith("arkway takeover") else {*DEFAULT_HOSTS}
        hosts = [f" --host {text_of(name)}" for name in names if text_of(name) not in known]
        raise Misconfigured(
            f"the certificate authority {place.ca} was not made for {', '.join(beyond)} and cannot vouch for it; "
            f"`{place.remake}{''.join(hosts)}` makes a new one, which every client has to be told to trust anew"
        )


def _check_age(place: Files, authority: _Authority, now: datetime) -> None:
    if not authority.lasts(now, RENEW_DAYS):
        raise Misconfigured(
            f"the certificate authority {place.ca} ends on {authority.certificate.not_valid_after_utc:%Y-%m-%d}; "
            f"`{place.remake}` makes a new one, which every client has to be told to trust anew"
        )


def _make_authority(place: Files, limits: x509.NameConstraints, now: datetime) -> _Authority:
    """The key first: a certificate without its key could be trusted by somebody already."""
    key = ec.generate_private_key(ec.SECP256R1())
    # A number in the name keeps two authorities apart in a client's trust store.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Arkway local CA {secrets.token_hex(4)}")])
    certificate = (
        _certificate_builder(subject, subject, key.public_key(), now, now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(limits, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(place.ca_key, _key_pem(key), PRIVATE)
    _write(place.ca, certificate.public_bytes(Encoding.PEM), PUBLIC)
    return _Authority(certificate, key)


def _issue(
    authority: _Authority, key: ec.EllipticCurvePrivateKey, names: Sequence[Name], now: datetime
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Arkway server")])
    issuer = authority.certificate
    above = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    until = min(now + timedelta(days=SERVER_DAYS), issuer.not_valid_after_utc)
    return (
        _certificate_builder(subject, issuer.subject, key.public_key(), now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def _certificate_builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names(certificate: x509.Certificate) -> tuple[Name, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name for name in found if isinstance(name, x509.DNSName | x509.IPAddress))


def _subtrees(certificate: x509.Certificate) -> tuple[str, ...]:
    limits = _limits(certificate)
    return tuple(str(tree.value) for tree in (limits.permitted_subtrees if limits else None) or ())


def _limits(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def _load_authority(place: Files) -> _Authority | None:
    """The authority that is there; None where there is none at all. Raises Misconfigured where a half is missing."""
    if not place.ca.exists() and not place.ca_key.exists():
        return None
    for path in (place.ca, place.ca_key):
        if not path.exists():
            raise _broken(place, path, "is missing")
    certificate, key = _certificate(place.ca, place), _private_key(place.ca_key, place)
    if certificate.public_key() != key.public_key():
        raise _broken(place, place.ca_key, f"is not the key of {place.ca}")
    return _Authority(certificate, key)


def _broken(place: Files | None, path: Path, what: str) -> Misconfigured:
    remake = place.remake if place else "arkway tls init --force"
    return Misconfigured(
        f"{path} {what}; restore it from a backup, or make a new certificate authority, "
        f"which every client has to be told to trust anew: {remake}"
    )


def _certificate(path: Path, place: Files | None = None) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise _broken(place, path, "holds no certificate") from None


def _private_key(path: Path, place: Files) -> ec.EllipticCurvePrivateKey:
    try:
        mode = path.stat().st_mode
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise _broken(place, path, "holds no private key") from None
    if stat.S_IMODE(mode) & 0o077:
        raise Misconfigured(f"other users can read {path}, which is a private key; run: chmod 600 {path}")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _broken(place, path, "holds a key of another kind than those made here")
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        replace(path, content, mode)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """While the block runs, no other process works in this folder."""
    try:
        for each in (folder.parent, folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Misconfigured(f"the folder {folder} cannot be made: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
