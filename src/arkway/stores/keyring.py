"""The key ring: keys under which the secrets of access keys lie in the database.

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce. What is encrypted is bound to its place (an access key's id)
as associated data: a ciphertext moved to another row does not open. A ciphertext begins with its key's id, so that
several keys can be in use while one takes another's place.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import secrets
import shlex
import signal
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from arkway.core.errors import Misconfigured, StoreUnavailable
from arkway.files import create_private, private_directory, read_private, replace

KEY_BYTES = 32
KID_BYTES = 8
NONCE_BYTES = 12
FILE_LIMIT_BYTES = 1 << 20
COMMAND_LIMIT_S = 10.0
COMMAND_OUTPUT_BYTES = 1 << 16
VARIABLE = "ARKWAY_MASTER_KEY"


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``keyring`` as it lies on the disk, in JSON: each key (base64) under its id, and the id of the current one."""

    current: str = ""
    keys: dict[str, bytes] = {}


class KeyRing:
    """Encrypts under the current key and decrypts under any.

    ``given`` are keys from outside, the current one first; without them the current key is the file's, which is made
    when something is encrypted for the first time. The file's keys decrypt in either case. Raises Misconfigured for a
    file that others can read or that is not whole, StoreUnavailable when it cannot be read.
    """

    def __init__(self, home: Path, given: Sequence[bytes] = ()) -> None:
        self.path = home / "keyring"
        self.given = bool(given)
        self._given = {kid_of(key): key for key in given}
        self._file = KeyFile()
        self._stamp: tuple[int, ...] = ()
        self._ciphers: Mapping[str, AESGCM] = {}
        self.reload()

    @property
    def current(self) -> str:
        """The id of the key to encrypt under; empty while there is none."""
        return next(iter(self._given), self._file.current)

    def knows(self, ciphertext: bytes) -> bool:
        """Whether this ring has the key of that ciphertext."""
        return kid_within(ciphertext) in self._ciphers

    def encrypt(self, text: bytes, place: str) -> bytes:
        """Key id (8 bytes), nonce (12), ciphertext with its tag (16 more than the text)."""
        if not self.current:
            self._begin()
        nonce = secrets.token_bytes(NONCE_BYTES)
        return bytes.fromhex(self.current) + nonce + self._ciphers[self.current].encrypt(nonce, text, place.encode())

    def decrypt(self, ciphertext: bytes, place: str) -> bytes:
        """What was encrypted for that place; the file is read again when the key is not known.

        Raises Misconfigured for a key that is not there and for a ciphertext that was changed or moved.
        """
        kid = kid_within(ciphertext)
        if kid not in self._ciphers and self._stamp != self._stamped():
            self.reload()
        cipher = self._ciphers.get(kid)
        if cipher is None:
            raise Misconfigured(f"the secret of `{place}` is encrypted under the key {kid}, {self.lost()}")
        start = KID_BYTES + NONCE_BYTES
        try:
            return cipher.decrypt(ciphertext[KID_BYTES:start], ciphertext[start:], place.encode())
        except (InvalidTag, ValueError) as error:
            raise Misconfigured(
                f"the secret of `{place}` was changed outside of Arkway and does not decrypt; "
                f"revoke that access key (`arkway aksk revoke {place}`) and make another"
            ) from error

    def lost(self) -> str:
        """The end of a sentence about a key that is not there: where it was looked for, and how to mend it."""
        outside = f"{VARIABLE} (or the output of `secrets.command`)"
        return (
            f"which is neither in {self.path} nor in {outside}; restore the file from a backup, put the key into "
            f"{VARIABLE}, or revoke the access keys (`arkway aksk revoke`) and make new ones"
        )

    def reload(self) -> None:
        """Take in the file as it is now."""
        stamp = self._stamped()
        file = _read(self.path) if stamp else KeyFile()
        keys = {**file.keys, **self._given}
        self._ciphers = {kid: AESGCM(key) for kid, key in keys.items()}
        self._file, self._stamp = file, stamp

    def advance(self) -> str:
        """A new current key in the file, beside the others; its id. Not for a ring whose current key is given."""
        self.reload()
        key = secrets.token_bytes(KEY_BYTES)
        kid = kid_of(key)
        self._write(KeyFile(kid, {**self._file.keys, kid: key}))
        return kid

    def keep_only(self, kids: Collection[str]) -> tuple[str, ...]:
        """Drop every other key from the file, but for the current one; the ids of those dropped."""
        self.reload()
        keys = {kid: key for kid, key in self._file.keys.items() if kid in kids or kid == self.current}
        dropped = tuple(kid for kid in self._file.keys if kid not in keys)
        if dropped:
            self._write(KeyFile(self._file.current if self._file.current in keys else "", keys))
        return dropped

    def _begin(self) -> None:
        """The first key. Two processes that begin at once agree on one."""
        key = secrets.token_bytes(KEY_BYTES)
        private_directory(self.path.parent)
        with _translated(self.path):
            create_private(self.path, msgspec.json.encode(KeyFile(kid_of(key), {kid_of(key): key})))
        self.reload()
        if not self.current:
            self.advance()

    def _write(self, file: KeyFile) -> None:
        private_directory(self.path.parent)
        with _translated(self.path):
            replace(self.path, msgspec.json.encode(file))
        self.reload()

    def _stamped(self) -> tuple[int, ...]:
        """Tells one file from its successor; empty when there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StoreUnavailable(f"the file {self.path} cannot be read: {error.strerror}") from error
        return found.st_ino, found.st_mtime_ns, found.st_size


def open_ring(
    home: Path, *, master_key: str = "", command: str = "", command_limit_s: float = COMMAND_LIMIT_S
) -> KeyRing:
    """The key ring of a data directory.

    ``master_key`` is the value of ``ARKWAY_MASTER_KEY``, ``command`` a program that prints such a value. Raises
    Misconfigured, StoreUnavailable.
    """
    if command and master_key.strip():
        raise Misconfigured(f"both {VARIABLE} and the setting `secrets.command` are set; leave one of them out")
    if command:
        return KeyRing(home, keys_from(_printed(command, command_limit_s), "the output of `secrets.command`"))
    return KeyRing(home, keys_from(master_key, VARIABLE) if master_key.strip() else ())


def keys_from(text: str, source: str) -> tuple[bytes, ...]:
    """One or more keys of 32 bytes, in base64 or hexadecimal digits, with commas or white space between them.

    Raises Misconfigured; the message shows nothing of the text.
    """
    words = text.replace(",", " ").split()
    keys = tuple(filter(None, map(_key, words)))
    if not words or len(keys) != len(words):
        raise Misconfigured(
            f"{source} is not a key of {KEY_BYTES} bytes in base64 or hexadecimal digits "
            "(several are separated by commas, the current one first); `openssl rand -base64 32` makes one"
        )
    return keys


def kid_of(key: bytes) -> str:
    """The key's id, 16 hexadecimal digits: derived from it, so that a wrong key is never taken for the right one."""
    return hmac.digest(key, b"arkway key id", "sha256")[:KID_BYTES].hex()


def kid_within(ciphertext: bytes) -> str:
    """The id of the key that a ciphertext was made with."""
    return ciphertext[:KID_BYTES].hex()


def _key(word: str) -> bytes | None:
    plain = word.replace("-", "+").replace("_", "/")
    try:
        key = bytes.fromhex(word) if len(word) == 2 * KEY_BYTES else _decoded(plain)
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES else None


def _decoded(word: str) -> bytes:
    """Base64, with or without its padding. Raises ValueError."""
    return base64.b64decode(word + "=" * (-len(word) % 4), validate=True)


def _printed(command: str, limit_s: float) -> str:
    """What the command writes to its standard output; its standard error is ours. No shell is involved."""
    try:
        process = subprocess.Popen(  # noqa: S603 (the operator's own setting)
            shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
    except (OSError, ValueError, IndexError) as error:
        raise Misconfigured(f"`secrets.command` cannot be run: {error}") from error
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        _end(process)
        raise Misconfigured(f"`secrets.command` has not ended after {limit_s:g} seconds") from error
    if process.returncode:
        raise Misconfigured(f"`secrets.command` ended with the status {process.returncode}; run it by hand to see why")
    return output[:COMMAND_OUTPUT_BYTES].decode("ascii", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """The command and everything it has started: they have a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _read(path: Path) -> KeyFile:
    with _translated(path):
        content = read_private(path, FILE_LIMIT_BYTES, "the secrets of access keys")
    try:
        file = msgspec.json.decode(content, type=KeyFile)
    except msgspec.DecodeError:
        file = None
    if file is None or not _whole(file):
        raise Misconfigured(f"{path} is damaged; restore it from a backup, or delete it and make every access key anew")
    return file


def _whole(file: KeyFile) -> bool:
    known = not file.current or file.current in file.keys
    return known and all(len(key) == KEY_BYTES and kid_of(key) == kid for kid, key in file.keys.items())


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"the file {path} cannot be read or written: {error.strerror}") from error
