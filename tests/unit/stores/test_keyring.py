"""The key ring: what it encrypts, where its keys come from, and what it says when they are wrong."""

from __future__ import annotations

import base64
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from arkway.core.errors import Misconfigured
from arkway.stores.keyring import KeyRing, keys_from, kid_of, kid_within, open_ring

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
BASE64 = base64.b64encode(KEY).decode()


def test_what_was_encrypted_comes_back_in_its_place_only(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    sealed = ring.encrypt("sécret".encode(), "AKLTone")
    assert ring.decrypt(sealed, "AKLTone").decode() == "sécret"
    with pytest.raises(Misconfigured, match="AKLTtwo"):
        ring.decrypt(sealed, "AKLTtwo")
    assert sealed != ring.encrypt("sécret".encode(), "AKLTone")


def test_the_form_is_aes_256_gcm_with_the_place_as_associated_data(tmp_path: Path) -> None:
    sealed = KeyRing(tmp_path, [KEY]).encrypt(b"secret", "AKLTone")
    assert sealed[:8].hex() == kid_of(KEY) == kid_within(sealed)
    assert AESGCM(KEY).decrypt(sealed[8:20], sealed[20:], b"AKLTone") == b"secret"


@pytest.mark.parametrize("place", [8, 19, 20, -1])
def test_a_changed_ciphertext_is_refused_with_the_way_out(tmp_path: Path, place: int) -> None:
    ring = KeyRing(tmp_path)
    sealed = bytearray(ring.encrypt(b"secret", "AKLTone"))
    sealed[place] ^= 1
    with pytest.raises(Misconfigured, match="arkway aksk revoke AKLTone") as caught:
        ring.decrypt(bytes(sealed), "AKLTone")
    assert "secret-" not in caught.value.message
    for short in (b"", sealed[:4], sealed[:8], sealed[:20], sealed[:30]):
        with pytest.raises(Misconfigured):
            ring.decrypt(bytes(short), "AKLTone")


def test_the_file_is_made_at_the_first_use_and_is_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ring = open_ring(home)
    assert not home.exists()
    sealed = ring.encrypt(b"x", "a")
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
    assert [file.name for file in home.iterdir()] == ["keyring"]
    assert open_ring(home).decrypt(sealed, "a") == b"x"


def test_starts_at_the_same_moment_agree(tmp_path: Path) -> None:
    def start(_: int) -> bytes:
        return KeyRing(tmp_path / "home").encrypt(b"x", "a")

    with ThreadPoolExecutor(8) as pool:
        sealed = list(pool.map(start, range(64)))
    assert len({kid_within(each) for each in sealed}) == 1
    assert all(KeyRing(tmp_path / "home").decrypt(each, "a") == b"x" for each in sealed)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o777])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    KeyRing(tmp_path).encrypt(b"x", "a")
    (tmp_path / "keyring").chmod(mode)
    with pytest.raises(Misconfigured, match="chmod 600"):
        KeyRing(tmp_path)


def damages() -> dict[str, bytes]:
    kid, key = kid_of(KEY), BASE64
    return {
        "empty": b"",
        "no JSON": b"\x00\xff",
        "not an object": b"[]",
        "a key of the wrong length": orjson.dumps({"current": kid, "keys": {kid: key[:20]}}),
        "a key under another's id": orjson.dumps({"current": kid, "keys": {kid: base64.b64encode(OTHER).decode()}}),
        "a current key that is not there": orjson.dumps({"current": "0" * 16, "keys": {kid: key}}),
        "something unknown": orjson.dumps({"current": kid, "keys": {kid: key}, "more": 1}),
    }


@pytest.mark.parametrize("content", damages().values(), ids=damages())
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keyring").write_bytes(content)
    (tmp_path / "keyring").chmod(0o600)
    with pytest.raises(Misconfigured, match="restore it from a backup"):
        KeyRing(tmp_path)
    assert (tmp_path / "keyring").read_bytes() == content


@pytest.mark.parametrize("text", [BASE64, BASE64.rstrip("="), KEY.hex(), KEY.hex().upper(), f"  {BASE64}\n"])
def test_a_given_key_is_read_in_base64_and_hexadecimal_digits(text: str) -> None:
    assert keys_from(text, "it") == (KEY,)


def test_the_url_safe_alphabet_is_read_too() -> None:
    key = b"\xfb\xff" * 16
    assert keys_from(base64.urlsafe_b64encode(key).decode(), "it") == (key,)


@pytest.mark.parametrize("separator", [",", ", ", "\n", " "])
def test_of_several_keys_the_first_is_the_current_one(tmp_path: Path, separator: str) -> None:
    old = KeyRing(tmp_path, [OTHER]).encrypt(b"x", "a")
    ring = open_ring(tmp_path, master_key=separator.join((BASE64, OTHER.hex())))
    assert ring.current == kid_of(KEY)
    assert ring.decrypt(old, "a") == b"x"
    assert not ring.path.exists()


@pytest.mark.parametrize("text", ["x", BASE64[:-4], BASE64 + "AAAA", KEY.hex()[:-2], "zz" * 32, f"{BASE64},short", "é"])
def test_a_key_that_is_none_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(Misconfigured, match="ARKWAY_MASTER_KEY is not a key of 32 bytes") as caught:
        open_ring(tmp_path, master_key=text)
    assert len(text) < 5 or text not in caught.value.message


def test_a_wrong_key_says_which_one_is_missing_and_what_to_do(tmp_path: Path) -> None:
    sealed = KeyRing(tmp_path, [KEY]).encrypt(b"x", "AKLTone")
    with pytest.raises(Misconfigured, match=f"{kid_of(KEY)}.*ARKWAY_MASTER_KEY.*backup.*aksk revoke"):
        KeyRing(tmp_path, [OTHER]).decrypt(sealed, "AKLTone")


def test_the_files_keys_decrypt_beside_a_given_one(tmp_path: Path) -> None:
    sealed = KeyRing(tmp_path).encrypt(b"x", "a")
    ring = open_ring(tmp_path, master_key=BASE64)
    assert ring.decrypt(sealed, "a") == b"x"
    assert kid_within(ring.encrypt(b"x", "a")) == kid_of(KEY)


def test_an_open_ring_follows_a_new_key_in_the_file(tmp_path: Path) -> None:
    running, other = KeyRing(tmp_path), KeyRing(tmp_path)
    before = running.encrypt(b"old", "a")
    other.reload()
    assert other.advance() != kid_within(before)
    after = other.encrypt(b"new", "a")
    assert running.decrypt(after, "a") == b"new"
    assert running.decrypt(before, "a") == b"old"


def test_only_what_is_needed_and_the_current_key_is_kept(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    kids = [ring.advance() for _ in range(4)]
    assert set(ring.keep_only({kids[1]})) == {kids[0], kids[2]}
    assert set(orjson.loads(ring.path.read_bytes())["keys"]) == {kids[1], kids[3]}
    assert ring.current == kids[3]


def test_a_command_prints_the_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{BASE64}\n{OTHER.hex()}\n")
    ring = open_ring(tmp_path, command=f"cat '{tmp_path}/key'")
    assert ring.current == kid_of(KEY)
    assert ring.decrypt(KeyRing(tmp_path, [OTHER]).encrypt(b"x", "a"), "a") == b"x"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("false", "ended with the status 1"),
        ("true", "is not a key of 32 bytes"),
        ("/nowhere/at/all", "cannot be run"),
        ("echo 'unclosed", "cannot be run"),
        ("   ", "cannot be run"),
        ("echo $(hostname)", "is not a key of 32 bytes"),
    ],
)
def test_a_command_that_prints_no_key_is_explained(tmp_path: Path, command: str, sentence: str) -> None:
    with pytest.raises(Misconfigured, match=sentence):
        open_ring(tmp_path, command=command)


def test_a_command_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Misconfigured, match="has not ended after"):
        open_ring(tmp_path, command="sh -c 'sleep 600; echo done'", command_limit_s=0.3)
    assert time.monotonic() - began < 300, "its children were waited for"


def test_two_sources_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="leave one of them out"):
        open_ring(tmp_path, master_key=BASE64, command="cat")
    assert open_ring(tmp_path, master_key="  \n").given is False


def test_a_new_key_is_put_beside_one_that_another_process_has_just_made(tmp_path: Path) -> None:
    rotating, creating = KeyRing(tmp_path), KeyRing(tmp_path)
    sealed = creating.encrypt(b"secret", "AKLT1")
    rotating.advance()
    assert KeyRing(tmp_path).decrypt(sealed, "AKLT1") == b"secret"


FULL_DISK = """
import resource, sys
from pathlib import Path
from arkway.core.errors import StoreUnavailable
from arkway.stores.keyring import KeyRing
ring = KeyRing(Path(sys.argv[1]))
limit = ring.path.stat().st_size + 10
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    ring.advance()
except StoreUnavailable as error:
    sys.exit(error.message)
"""


def test_a_disk_that_takes_half_a_file_leaves_the_old_one_whole(tmp_path: Path) -> None:
    """A write past the limit of file sizes takes a part, as one on a disk that is almost full does."""
    ring = KeyRing(tmp_path)
    sealed = ring.encrypt(b"secret", "AKLT1")
    finished = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 1
    assert "cannot be read or written" in finished.stderr
    assert KeyRing(tmp_path).decrypt(sealed, "AKLT1") == b"secret"
    assert [file.name for file in tmp_path.iterdir()] == ["keyring"]
