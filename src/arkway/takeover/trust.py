"""How each client stack is told to trust a certificate authority: commands with the real path in them."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import urlsplit

import msgspec


class Recipe(msgspec.Struct, frozen=True):
    """For one stack: shell commands to run, and what there is to know about them."""

    stack: str
    title: str
    commands: tuple[str, ...]
    note: str


# {ca} is the authority's certificate, {url} where the server is, {place} its host and port, {host} its host.
_RECIPES = (
    Recipe(
        "python-requests",
        "Python, requests (volcengine, LangChain)",
        ("export REQUESTS_CA_BUNDLE={ca}",),
        "Replaces the authorities that requests knows; a program that also calls the public internet needs both in one "
        "file: see certifi. In code: session.verify = {ca}. Clients on volcenginesdkcore read no variable; in code: "
        "Configuration.ssl_ca_cert = {ca}.",
    ),
    Recipe(
        "python-httpx",
        "Python, httpx (volcenginesdkarkruntime, openai)",
        ("export SSL_CERT_FILE={ca}",),
        "Replaces the authorities that httpx knows; for both in one file see certifi. In code: "
        "http_client=httpx.Client(verify=ssl.create_default_context(cafile={ca})).",
    ),
    Recipe(
        "certifi",
        "Python, requests and httpx, with the public authorities of certifi kept",
        (
            'cat "$(python -m certifi)" {ca} > ca-bundle.pem',
            'export REQUESTS_CA_BUNDLE="$PWD/ca-bundle.pem" SSL_CERT_FILE="$PWD/ca-bundle.pem"',
        ),
        "Run it with the Python of the program's own environment. Appending to certifi's own file works as well, until "
        "the package is next updated.",
    ),
    Recipe(
        "go",
        "Go, crypto/tls and net/http (volc-sdk-golang, volcengine-go-sdk)",
        ("export SSL_CERT_FILE={ca}",),
        "On Linux and BSD; the system's folders of authorities are still read. On macOS Go asks the system: "
        "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {ca}. In code: "
        "tls.Config{RootCAs: pool}, after pool.AppendCertsFromPEM.",
    ),
    Recipe(
        "java",
        "Java, every client on the JDK's own TLS (volc-sdk-java, ark-runtime)",
        (
            (
                "keytool -importcert -noprompt -alias arkway -storetype PKCS12 -storepass changeit "
                "-keystore arkway.p12 -file {ca}"
            ),
            (
                'export JAVA_TOOL_OPTIONS="-Djavax.net.ssl.trustStore=$PWD/arkway.p12 '
                '-Djavax.net.ssl.trustStorePassword=changeit"'
            ),
        ),
        "Replaces the authorities that the JDK knows. To add to them: "
        "sudo keytool -importcert -noprompt -cacerts -storepass changeit -alias arkway -file {ca}",
    ),
    Recipe(
        "node",
        "Node.js (@volcengine/openapi, openai)",
        ("export NODE_EXTRA_CA_CERTS={ca}",),
        "Adds to the authorities that Node knows; read once, when the process starts.",
    ),
    Recipe(
        "curl",
        "curl",
        ("export CURL_CA_BUNDLE={ca}", "curl {url}/livez"),
        "For one call: curl --cacert {ca}. Builds of curl that use the system's TLS (Windows) ask the system instead.",
    ),
    Recipe(
        "openssl",
        "OpenSSL's own client, which says what the server shows",
        ("openssl s_client -connect {place} -servername {host} -CAfile {ca} -verify_return_error -brief < /dev/null",),
        "Says `Verification: OK`.",
    ),
    Recipe(
        "system",
        "The whole machine (Debian, Ubuntu)",
        ("sudo cp {ca} /usr/local/share/ca-certificates/arkway.crt", "sudo update-ca-certificates"),
        "On Fedora and RHEL: sudo cp {ca} /etc/pki/ca-trust/source/anchors/, then sudo update-ca-trust. Read by curl, "
        "Go, OpenSSL and the distribution's own JDK; not by requests, httpx and Node, which bring their own.",
    ),
)

STACKS = tuple(each.stack for each in _RECIPES)


def recipes(ca: Path, url: str, stack: str = "") -> tuple[Recipe, ...]:
    """The recipes for every one of `STACKS`, or for one. ``url``: the server's, such as ``https://localhost:8443``."""
    place = urlsplit(url)
    words = {"{ca}": shlex.quote(str(ca)), "{url}": url, "{place}": place.netloc, "{host}": place.hostname or ""}
    return tuple(_filled(each, words) for each in _RECIPES if stack in ("", each.stack))


def _filled(recipe: Recipe, words: dict[str, str]) -> Recipe:
    def fill(text: str) -> str:
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    return Recipe(recipe.stack, recipe.title, tuple(map(fill, recipe.commands)), fill(recipe.note))
