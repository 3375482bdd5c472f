"""What a TLS listener is made of."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from arkway.core.errors import Misconfigured
from arkway.takeover.authority import Files, files, initialise
from arkway.takeover.listening import server_context

NOW_S = 1_800_000_000


@pytest.fixture
def place(tmp_path: Path) -> Files:
    initialise(tmp_path, [], NOW_S)
    return files(tmp_path)


def test_nothing_older_than_tls_1_2_is_spoken(place: Files) -> None:
    context = server_context(place.server, place.server_key)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE


def test_missing_files_are_said_with_the_command_that_makes_them(tmp_path: Path) -> None:
    place = files(tmp_path)
    with pytest.raises(Misconfigured, match="arkway tls init"):
        server_context(place.server, place.server_key)


def test_a_key_that_does_not_belong_is_said(place: Files) -> None:
    with pytest.raises(Misconfigured, match="belong together"):
        server_context(place.server, place.ca_key)


def test_a_file_that_is_no_pem_is_said(place: Files) -> None:
    place.server.write_text("hello")
    with pytest.raises(Misconfigured, match="have to be PEM"):
        server_context(place.server, place.server_key)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(place: Files) -> None:
    key = load_pem_private_key(place.server_key.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    place.server_key.write_bytes(locked)
    with pytest.raises(Misconfigured, match="must not be encrypted"):
        server_context(place.server, place.server_key)


def test_a_folder_is_no_file(place: Files) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        server_context(place.server.parent, place.server_key)
