"""End-to-end encryption of message texts as MaaS v1 and v2 clients speak it (protocol §4.7).

The client reads the server's certificate, makes a key pair for one call, and sends its public half as the
``crypto_token``. Elliptic-curve Diffie-Hellman on P-256 and HKDF-SHA256 (RFC 5869, no salt, no info) give both sides 44
bytes: an AES-256-GCM key and one nonce, used for every text of the call in both directions. That reuse of the nonce is
the protocol's, and its weakness: see ``docs/message-encryption.md``.
"""

from __future__ import annotations

import base64
import binascii
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from arkway.core.errors import InvalidField, Misconfigured, StoreUnavailable
from arkway.files import create_private, private_directory, read_private

FILE = "messages.pem"
KEY_BYTES = 32
NONCE_BYTES = 12
POINT_BYTES = 65
VALID_DAYS = 20 * 365
FILE_BYTES_MAX = 64 * 1024


class TextChannel:
    """Implements `arkway.ports.Channel`. An empty text stays empty: the clients neither encrypt nor decrypt it."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._cipher = AESGCM(key)
        self._nonce = nonce

    def open(self, text: str) -> str:
        """Base64 of ciphertext and tag to clear text. Raises InvalidField, without a field: the caller knows which."""
        if not text:
            return ""
        try:
            data = base64.b64decode(text, validate=True)
            return self._cipher.decrypt(self._nonce, data, None).decode()
        except (binascii.Error, ValueError, InvalidTag):
            raise InvalidField(
                "an encrypted text cannot be opened with the key that `crypto_token` agrees on; it has to be the "
                "base64 of an AES-256-GCM ciphertext and its tag, made with the certificate this server gives now"
            ) from None

    def seal(self, text: str) -> str:
        if not text:
            return ""
        data = self._cipher.encrypt(self._nonce, text.encode("utf-8", "replace"), None)
        return base64.b64encode(data).decode()


class KeySealing:
    """Implements `arkway.ports.Sealing` with one P-256 key and the certificate that carries its public half."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: str) -> None:
        self._key = key
        self.certificate = certificate

    def channel(self, crypto_token: str) -> TextChannel:
        """The channel that the caller's half of the exchange opens. Raises InvalidField."""
        shared = self._key.exchange(ec.ECDH(), _point(crypto_token))
        derived = HKDF(hashes.SHA256(), KEY_BYTES + NONCE_BYTES, salt=None, info=None).derive(shared)
        return TextChannel(derived[:KEY_BYTES], derived[KEY_BYTES:])


def load_or_create(home: Path) -> KeySealing:
    """The sealing of this data directory, from ``<home>/messages.pem``, which is made on first use.

    Raises Misconfigured when other users can read the file or when it is not whole, StoreUnavailable when it cannot be
    read or written.
    """
    path = private_directory(home) / FILE
    try:
        if not path.exists():
            create_private(path, _new(int(time.time())))
        return _parsed(path, read_private(path, FILE_BYTES_MAX, "encrypted messages"))
    except OSError as error:
        raise StoreUnavailable(f"the file {path} cannot be read or written: {error.strerror}") from error


def fresh(now_s: int) -> KeySealing:
    """A sealing with a new key that nothing keeps: for tests."""
    return _parsed(Path(FILE), _new(now_s))


def _point(crypto_token: str) -> ec.EllipticCurvePublicKey:
    try:
        data = base64.b64decode(crypto_token, validate=True)
        if len(data) != POINT_BYTES:
            raise ValueError
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)
    except ValueError:  # binascii.Error is one
        raise InvalidField(
            f"the field `crypto_token` has to be the base64 of an uncompressed point of P-256, {POINT_BYTES} bytes",
            "crypto_token",
        ) from None


def _new(now_s: int) -> bytes:
    """A private key and its self-signed certificate, one PEM text."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Arkway message encryption")])
    now = datetime.fromtimestamp(now_s, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def _parsed(path: Path, content: bytes) -> KeySealing:
    try:
        key = load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content)
    except (ValueError, TypeError):
        raise _broken(path, "does not hold a private key and a certificate") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _broken(path, "holds a key that is not of the curve P-256")
    if certificate.public_key() != key.public_key():
        raise _broken(path, "holds a certificate that belongs to another key")
    return KeySealing(key, certificate.public_bytes(Encoding.PEM).decode())


def _broken(path: Path, what: str) -> Misconfigured:
    return Misconfigured(
        f"{path} {what}; restore it from a backup, or delete it: the next start makes a new one, and clients that "
        "kept the old certificate have to read the new one"
    )
