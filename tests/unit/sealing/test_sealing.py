"""Message encryption against an independent client: the exchange as the protocol describes it, written out here."""

from __future__ import annotations

import base64
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from arkway.core.errors import InvalidField, Misconfigured
from arkway.ports import Channel, Sealing
from arkway.sealing import KeySealing, load_or_create

TEXTS = ["hello", "你好,天空为什么这么蓝?", " ", "\n", "😀" * 2000, "YQ=="]


class Client:
    """One call of a client that has only the certificate."""

    def __init__(self, certificate: str) -> None:
        public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        mine = ec.generate_private_key(ec.SECP256R1())
        shared = mine.exchange(ec.ECDH(), public)
        derived = HKDF(hashes.SHA256(), 44, salt=None, info=None).derive(shared)
        self.key, self.nonce = derived[:32], derived[32:]
        point = mine.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.token = base64.b64encode(point).decode()

    def encrypt(self, text: str) -> str:
        encryptor = Cipher(algorithms.AES(self.key), modes.GCM(self.nonce)).encryptor()
        sealed = encryptor.update(text.encode()) + encryptor.finalize()
        return base64.b64encode(sealed + encryptor.tag).decode()

    def decrypt(self, text: str) -> str:
        data = base64.b64decode(text)
        decryptor = Cipher(algorithms.AES(self.key), modes.GCM(self.nonce, data[-16:])).decryptor()
        return (decryptor.update(data[:-16]) + decryptor.finalize()).decode()


@pytest.fixture
def sealing(tmp_path: Path) -> KeySealing:
    return load_or_create(tmp_path)


def test_it_implements_its_ports(sealing: KeySealing) -> None:
    port: Sealing = sealing
    channel: Channel = port.channel(Client(sealing.certificate).token)
    assert channel.open(channel.seal("a")) == "a"


@pytest.mark.parametrize("text", TEXTS)
def test_what_a_client_encrypts_is_opened_and_what_is_sealed_it_decrypts(sealing: KeySealing, text: str) -> None:
    client = Client(sealing.certificate)
    channel = sealing.channel(client.token)
    assert channel.open(client.encrypt(text)) == text
    assert client.decrypt(channel.seal(text)) == text


def test_every_frame_of_a_stream_is_sealed_for_itself(sealing: KeySealing) -> None:
    client = Client(sealing.certificate)
    channel = sealing.channel(client.token)
    frames = [channel.seal(piece) for piece in "天空是蓝色的"]
    assert "".join(map(client.decrypt, frames)) == "天空是蓝色的"


def test_an_empty_text_stays_empty_and_an_encrypted_empty_text_is_opened(sealing: KeySealing) -> None:
    client = Client(sealing.certificate)
    channel = sealing.channel(client.token)
    assert (channel.seal(""), channel.open("")) == ("", "")
    assert channel.open(client.encrypt("")) == ""


def test_two_calls_share_no_key(sealing: KeySealing) -> None:
    first, second = Client(sealing.certificate), Client(sealing.certificate)
    with pytest.raises(InvalidField):
        sealing.channel(second.token).open(first.encrypt("hello"))


@pytest.mark.parametrize(
    "text", ["hello", "天", "AAAA", "A" * 24, "====", "\x00", base64.b64encode(b"x" * 40).decode()]
)
def test_a_text_that_is_not_encrypted_is_refused(sealing: KeySealing, text: str) -> None:
    with pytest.raises(InvalidField) as caught:
        sealing.channel(Client(sealing.certificate).token).open(text)
    assert "crypto_token" in caught.value.message


def test_a_changed_text_is_refused(sealing: KeySealing) -> None:
    client = Client(sealing.certificate)
    data = bytearray(base64.b64decode(client.encrypt("hello")))
    for place in range(len(data)):
        data[place] ^= 1
        with pytest.raises(InvalidField):
            sealing.channel(client.token).open(base64.b64encode(data).decode())
        data[place] ^= 1


def test_bytes_that_are_no_text_are_refused(sealing: KeySealing) -> None:
    client = Client(sealing.certificate)
    encryptor = Cipher(algorithms.AES(client.key), modes.GCM(client.nonce)).encryptor()
    sealed = encryptor.update(b"\xff\xfe") + encryptor.finalize() + encryptor.tag
    with pytest.raises(InvalidField):
        sealing.channel(client.token).open(base64.b64encode(sealed).decode())


def _token(point: bytes) -> str:
    return base64.b64encode(point).decode()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "天",
        "not base64!",
        _token(b"\x04" + b"\x00" * 64),
        _token(b"\x04" + b"\xff" * 64),
        _token(b"\x00"),
        _token(b"\x02" + b"\x01" * 32),
        _token(b"\x05" + b"\x01" * 64),
    ],
)
def test_a_token_that_is_no_point_of_the_curve_is_refused(sealing: KeySealing, token: str) -> None:
    with pytest.raises(InvalidField) as caught:
        sealing.channel(token)
    assert caught.value.field == "crypto_token"


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = load_or_create(home)
    assert stat.S_IMODE((home / "messages.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert [path.name for path in home.iterdir()] == ["messages.pem"]
    client = Client(first.certificate)
    again = load_or_create(home)
    assert again.certificate == first.certificate
    assert again.channel(client.token).open(client.encrypt("hello")) == "hello"


def test_what_is_given_out_holds_the_certificate_and_no_key(sealing: KeySealing) -> None:
    assert sealing.certificate.count("-----BEGIN") == 1
    assert sealing.certificate.startswith("-----BEGIN CERTIFICATE-----\n")
    subject = x509.load_pem_x509_certificate(sealing.certificate.encode()).subject.rfc4514_string()
    assert "Arkway" in subject


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    ready, certificates = threading.Barrier(8), []

    def start() -> None:
        ready.wait()
        certificates.append(load_or_create(tmp_path).certificate)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(certificates) == 8
    assert len(set(certificates)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["messages.pem"]


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    (tmp_path / "messages.pem").chmod(0o644)
    with pytest.raises(Misconfigured, match="chmod 600"):
        load_or_create(tmp_path)


def _without_certificate(content: str) -> str:
    return content.partition("-----BEGIN CERTIFICATE")[0]


def _without_key(content: str) -> str:
    return content[content.index("-----BEGIN CERTIFICATE") :]


@pytest.mark.parametrize("damage", [_without_certificate, _without_key, lambda _: "", lambda text: text[:200]])
def test_a_file_that_is_not_whole_is_refused_and_kept(tmp_path: Path, damage: object) -> None:
    load_or_create(tmp_path)
    path = tmp_path / "messages.pem"
    assert callable(damage)
    path.write_text(damaged := damage(path.read_text()))
    with pytest.raises(Misconfigured, match="restore it"):
        load_or_create(tmp_path)
    assert path.read_text() == damaged


def test_a_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    load_or_create(one)
    load_or_create(other)
    key, certificate = (home / "messages.pem" for home in (one, other))
    mixed = _without_certificate(key.read_text()) + _without_key(certificate.read_text())
    (one / "messages.pem").write_text(mixed)
    with pytest.raises(Misconfigured, match="another key"):
        load_or_create(one)


def test_a_home_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="cannot be made"):
        load_or_create(tmp_path / "file")
