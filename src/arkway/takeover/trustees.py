"""Environments that are told to trust the takeover's authority: which file that takes, and which variables.

Python: certifi's bundle of one environment (the AK/SK mode of the Ark SDK reads that and nothing else). Java: a copy of
the JDK's trust store, or a given one. Go, requests, curl: a bundle of the machine's authorities and ours. Node: none.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from arkway.core.errors import Misconfigured
from arkway.files import private_directory
from arkway.takeover.authority import Described, describe
from arkway.takeover.manifest import Manifest

PROGRAM_S = 60
STORE_PASSWORD_VARIABLE = "ARKWAY_STORE_PASSWORD"  # noqa: S105 (a name)

# Where distributions keep the machine's authorities in one file (Debian, Fedora, RHEL, openSUSE, Alpine, macOS).
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
BEGIN = b"# >>> arkway takeover: added by `arkway takeover trust`, removed by `arkway takeover stop` >>>\n"
END = b"# <<< arkway takeover <<<\n"

_ASK_CERTIFI = "import certifi, os, sys; print(os.path.realpath(certifi.where())); print(os.path.realpath(sys.prefix))"


class Told(msgspec.Struct, frozen=True):
    """One environment after it was told: the file changed (empty: none), variables to set, what there is to know."""

    target: str
    file: str
    variables: dict[str, str]
    note: str


class Trustees:
    """Tells environments to trust the authority ``ca`` and to use the proxy at ``proxy``; all methods raise
    Misconfigured. Every file that is changed is in the manifest first."""

    def __init__(self, folder: Path, ca: Path, proxy: str, now_s: int) -> None:
        self._folder = folder
        self._ca = ca
        self._authority: Described = describe(ca)
        self._proxy = proxy
        self._now_s = now_s
        self._manifest = Manifest(folder)

    def python(self, place: Path) -> Told:
        """A virtual environment, or an interpreter: our certificate goes to the end of its certifi's bundle."""
        bundle = certifi_bundle(place)
        self._append(bundle, "python")
        # Where these are set already, they would keep requests and httpx from reading it.
        variables = {"SSL_CERT_FILE": str(bundle), "REQUESTS_CA_BUNDLE": str(bundle), **self._proxied()}
        note = "The AK/SK mode of the Ark SDKs reads this file and nothing else; all others can be told by --requests."
        return Told("python", str(bundle), variables, note)

    def java(self, place: Path, password: str = "changeit", *, socks: bool = False) -> Told:  # noqa: S107
        """A JAVA_HOME, whose trust store is copied, or a trust store, into which our certificate is imported.

        ``socks``: for clients that heed no HTTP proxy, such as volc-sdk-java.
        """
        if place.is_dir():
            source = java_store(place)
            name = hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:12]
            store, home = private_directory(self._folder / "trust") / f"java-{name}.store", place
        else:
            source = store = _file(place)
            home = None
        self._import(source, store, home, password)
        options = {**_java_proxy(self._proxy, socks=socks), "javax.net.ssl.trustStore": str(store)}
        options["javax.net.ssl.trustStorePassword"] = password
        words = " ".join(_quoted(f"-D{name}={value}") for name, value in options.items())
        note = (
            "HttpURLConnection and okhttp (the Ark SDK) heed the proxy; volc-sdk-java heeds none: use --socks for it."
        )
        if socks:
            note = (
                "By SOCKS, every plain socket of this JVM goes to the takeover, which refuses all but the vendor's "
                "hosts; what is to be reached directly is named by -DsocksNonProxyHosts='localhost|127.*|10.*'."
            )
        return Told("java", str(store), {"JAVA_TOOL_OPTIONS": words}, note)

    def go(self) -> Told:
        """Go on Linux: a bundle of the machine's authorities and ours."""
        bundle = str(self._bundle())
        variables = {"SSL_CERT_FILE": bundle, "VOLC_HTTPS_PROXY": self._proxy, **self._proxied()}
        return Told("go", bundle, variables, "volc-sdk-golang reads VOLC_HTTPS_PROXY, all others HTTPS_PROXY.")

    def requests(self) -> Told:
        """Python programs by variables alone, none of their files touched: a bundle of the machine's and ours."""
        bundle = str(self._bundle())
        variables = {"REQUESTS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle, **self._proxied()}
        return Told(
            "requests", bundle, variables, "Enough for requests and httpx; the Ark SDK's AK/SK mode needs --python."
        )

    def curl(self) -> Told:
        """curl: the same bundle."""
        bundle = str(self._bundle())
        return Told("curl", bundle, {"CURL_CA_BUNDLE": bundle, **self._proxied()}, "")

    def node(self) -> Told:
        """Node adds a file to its own authorities: no file is changed."""
        variables = {"NODE_EXTRA_CA_CERTS": str(self._ca), "NODE_USE_ENV_PROXY": "1", **self._proxied()}
        note = "axios heeds HTTPS_PROXY by itself, fetch with NODE_USE_ENV_PROXY from Node 22.21 and 24 on."
        return Told("node", "", variables, note)

    def _proxied(self) -> dict[str, str]:
        own = "localhost,127.0.0.1,::1"
        return {"HTTPS_PROXY": self._proxy, "https_proxy": self._proxy, "NO_PROXY": own, "no_proxy": own}

    def _append(self, bundle: Path, target: str) -> None:
        with self._manifest.alone():
            if self._holds(bundle):
                return
            original = self._original(bundle)
            if BEGIN in original:
                raise Misconfigured(
                    f"{bundle} holds the certificate of another takeover; stop that one (`arkway --home … takeover "
                    f"stop`), or cut out the lines from `{BEGIN.decode().split(':')[0]}` to `{END.decode().strip()}`"
                )
            self._change(bundle, _appended(original, self._ca.read_bytes()), target)

    def _bundle(self) -> Path:
        """The machine's authorities and ours in one file; one file for all who need it."""
        path = private_directory(self._folder / "trust") / "bundle.pem"
        with self._manifest.alone():
            if not self._holds(path):
                machine = next((Path(each) for each in SYSTEM_BUNDLES if Path(each).exists()), None)
                content = _appended(machine.read_bytes() if machine else b"", self._ca.read_bytes())
                self._change(path, content, "bundle")
        return path

    def _import(self, source: Path, store: Path, home: Path | None, password: str) -> None:
        with self._manifest.alone():
            if self._holds(store):
                return
            original = self._original(store) if source == store else source.read_bytes()
            alias = f"arkway-takeover-{self._authority.sha256[:11].replace(':', '').lower()}"
            self._change(store, _imported(original, self._ca, home, password, alias), "java")

    def _holds(self, path: Path) -> bool:
        """Whether the file is as we made it, with the authority of today."""
        found = self._manifest.entry(path)
        return found is not None and found.ca_sha256 == self._authority.sha256 and self._manifest.changed(found)

    def _original(self, path: Path) -> bytes:
        """The file without what an earlier authority of ours has added to it."""
        if self._manifest.entry(path) is not None:
            self._manifest.undo(path)
        return path.read_bytes()

    def _change(self, path: Path, content: bytes, target: str) -> None:
        ca = self._authority.sha256
        self._manifest.change(path, content, target=target, ca_sha256=ca, now_s=self._now_s)


def certifi_bundle(place: Path) -> Path:
    """The bundle of certifi in an environment (its folder, or its interpreter). Raises Misconfigured."""
    interpreter = next((each for each in _interpreters(place) if each.is_file()), None)
    if interpreter is None:
        raise Misconfigured(f"{place} is neither an interpreter nor a virtual environment (it has no bin/python)")
    told = _run([str(interpreter), "-I", "-c", _ASK_CERTIFI], f"{interpreter} has no certifi; install it there")
    bundle, prefix = map(Path, told.splitlines()[-2:])
    if not bundle.is_relative_to(prefix):
        raise Misconfigured(
            f"the authorities of {interpreter} are the whole machine's ({bundle}), which is not changed for one "
            "program; use a virtual environment, or `arkway takeover trust --requests`"
        )
    return _file(bundle)


def java_store(home: Path) -> Path:
    """The trust store of a JDK or JRE. Raises Misconfigured."""
    for inside in ("lib/security/cacerts", "jre/lib/security/cacerts"):
        if (home / inside).is_file():
            return (home / inside).resolve()
    raise Misconfigured(f"{home} is no JAVA_HOME: it has no lib/security/cacerts")


def _interpreters(place: Path) -> Sequence[Path]:
    return (place / "bin" / "python", place / "bin" / "python3") if place.is_dir() else (place,)


def _file(path: Path) -> Path:
    real = path.expanduser().resolve()
    if not real.is_file():
        raise Misconfigured(f"there is no file {real}")
    return real


def _appended(bundle: bytes, certificate: bytes) -> bytes:
    gap = b"" if not bundle or bundle.endswith(b"\n") else b"\n"
    return bundle + gap + BEGIN + certificate + END


def _imported(store: bytes, ca: Path, home: Path | None, password: str, alias: str) -> bytes:
    """The content of a trust store with one certificate more; keytool works on a copy."""
    own = home / "bin" / "keytool" if home else None
    keytool = str(own) if own and own.is_file() else shutil.which("keytool")
    if keytool is None:
        raise Misconfigured("there is no keytool on PATH; give a JAVA_HOME that has bin/keytool")
    with tempfile.TemporaryDirectory(prefix="arkway-") as folder:
        copy = Path(folder) / "store"
        copy.write_bytes(store)
        words = ["-importcert", "-noprompt", "-alias", alias, "-file", str(ca), "-keystore", str(copy)]
        given = [*words, "-storepass:env", STORE_PASSWORD_VARIABLE]
        _run([keytool, *given], "keytool cannot import into the trust store", {STORE_PASSWORD_VARIABLE: password})
        return copy.read_bytes()


def _run(command: list[str], failure: str, environ: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(  # noqa: S603 (what the user named)
            command,
            env={**os.environ, **(environ or {})},
            capture_output=True,
            text=True,
            timeout=PROGRAM_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Misconfigured(f"{command[0]} cannot be run: {error}") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Misconfigured(f"{failure}: {said[-1][:200] if said else f'it ended with {done.returncode}'}")
    return done.stdout


def _java_proxy(proxy: str, *, socks: bool) -> dict[str, str]:
    place = urlsplit(proxy)
    host, port = place.hostname or "", str(place.port)
    if socks:
        return {"socksProxyHost": host, "socksProxyPort": port}
    return {"https.proxyHost": host, "https.proxyPort": port, "http.proxyHost": host, "http.proxyPort": port}


def _quoted(option: str) -> str:
    """As the JVM reads JAVA_TOOL_OPTIONS."""
    return f"'{option}'" if " " in option else option
