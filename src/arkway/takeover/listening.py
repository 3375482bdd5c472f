"""What a TLS listener shows: a context made from a certificate and a key."""

from __future__ import annotations

import ssl
from pathlib import Path

from arkway.core.errors import Misconfigured


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and newer, HTTP/1.1. Raises Misconfigured when the files are missing or do not belong together."""
    for path in (certificate, key):
        _check_readable(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A password of its own keeps an encrypted key from asking for one at a terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise Misconfigured(
            f"the certificate {certificate} and the key {key} cannot be used: {_reason(error)}; they have to be PEM, "
            "belong together, and the key must not be encrypted"
        ) from None
    return context


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise Misconfigured(
            f"TLS is on, but there is no file {path}; `arkway tls init` makes a certificate of our own, "
            "and `tls.certificate` and `tls.key` name one that you have"
        ) from None
    except OSError as error:
        raise Misconfigured(f"TLS is on, but {path} cannot be read: {error.strerror}") from None


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "not readable").lower().replace("_", " ")
