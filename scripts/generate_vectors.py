"""Writes the published test vectors of Volc Signature V4 to ``docs/signing/``: ``python scripts/generate_vectors.py``.

Fixed keys and a fixed time, so the files only change when the scheme or the list of cases does. ``--check`` writes
nothing and exits with 1 when a file is missing, out of date or not one of ours.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import msgspec

from arkway.signing import Head, Policy, canonical_request, claim, sign, string_to_sign

DIRECTORY = Path(__file__).resolve().parent.parent / "docs" / "signing"
ACCESS_KEY_ID = "AKLTEXAMPLE0000000000"
SECRET = "c2tFWEFNUExFMDAwMDAwMDAwMDAwMDAwMA=="  # noqa: S105 (published)
SESSION_TOKEN = "STS2eyJMVEFjY2Vzc0tleUlkIjoiQUtMVCJ9"  # noqa: S105 (published)
X_DATE, NOW_S = "20240703T064826Z", 1719989306
HOST = "maas-api.ml-platform-cn-beijing.volces.com"
JSON = "application/json"
CHAT = b'{"model": {"name": "skylark-chat"}, "messages": [{"role": "user", "content": "hello"}]}'
KEY_CALL = b'{"DurationSeconds": 604800, "ResourceIds": ["ep-20240703-abcde"], "ResourceType": "endpoint"}'
ONLY_FOUR = ("content-type", "host", "x-content-sha256", "x-date")

README = """# Test vectors of Volc Signature V4

One directory per case, in the layout of the public test suite of AWS Signature V4. The scheme is described in
[signing](../signing.md). Lines end with LF, files without a line end after the last line.

| file | holds |
| --- | --- |
| `<case>.req` | the request without Authorization: request line, headers, empty line, body |
| `<case>.creq` | the canonical request |
| `<case>.sts` | the string to sign |
| `<case>.authz` | the Authorization value |
| `<case>.sreq` | the request as it is sent |

Every case is signed at `{x_date}` with the id `{access_key_id}` and the secret `{secret}` (used as it is, not
base64-decoded); region and service are `cn-beijing` and `ml_maas` unless the table says otherwise. The files are
written by `scripts/generate_vectors.py`; the tests compare them with what a second, independent implementation
computes.

| case | shows |
| --- | --- |
{rows}
"""


class Case(msgspec.Struct):
    """``signed_body`` is what the signer hashed, where that is not what it sends."""

    name: str
    shows: str
    target: str = "/api/v1/chat"
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = (("Content-Type", JSON),)
    host: str = HOST
    body: bytes = CHAT
    signed_body: bytes | None = None
    signed: tuple[str, ...] | None = None
    token: str = ""
    region: str = "cn-beijing"
    service: str = "ml_maas"


def typed(*more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("Content-Type", JSON), *more)


REQUESTS = [
    Case("get-vanilla", "no body: the hash of nothing", "/", "GET", (), body=b""),
    Case("post-vanilla", "POST without body and Content-Type", headers=(), body=b""),
    Case("post-json", "a chat request of the Python SDK"),
    Case("post-json-utf8", "the body is hashed as sent", body='{"messages":[{"role":"user","content":"天"}]}'.encode()),
    Case("post-json-lines", "a body of several lines, as Java prints it", body=b'{\n  "stream": true\n}'),
    Case("post-empty-object", "`{}` as the body", body=b"{}"),
    Case("post-hash-of-nothing", "the Python core SDK hashes nothing and sends `{}`", body=b"{}", signed_body=b""),
    Case("post-endpoint", "a v2 path", "/api/v2/endpoint/ep-20240703-abcde/chat"),
]
PATHS = [
    Case("path-unreserved", "octets that are never encoded", "/-._~09AZaz"),
    Case("path-encoded-unreserved", "needless escapes are undone", "/%61pi/v1/ch%41t"),
    Case("path-lower-case-escape", "escapes get upper-case digits", "/api/v2/endpoint/%e4%b8%ad/chat"),
    Case("path-space", "a blank is `%20`", "/api/v2/endpoint/ep%20a/chat"),
    Case("path-plus", "`+` in a path is a plus", "/api/v2/endpoint/a+b/chat"),
    Case("path-utf8", "UTF-8 octets", "/api/v2/endpoint/ep-%E5%A4%A9/chat"),
    Case("path-reserved", "reserved characters are encoded", "/api/v2/endpoint/a:b@c!$'(),;=/chat"),
    Case("path-trailing-slash", "a slash at the end stays", "/api/v1/chat/"),
]
QUERIES = [
    Case("query-empty", "a question mark with nothing behind it (LangChain)", "/api/v1/chat?"),
    Case("query-order", "sorted by name", "/api/v1/chat?b=2&a=1&c=3"),
    Case("query-order-case", "upper case before lower case", "/api/v1/chat?a=1&A=2"),
    Case("query-order-prefix", "by name, not by the joined text", "/api/v1/chat?a-b=2&a=1"),
    Case("query-order-decoded", "by decoded, not by encoded name", "/api/v1/chat?a%2F=2&a-=1"),
    Case("query-unreserved", "octets that are never encoded", "/api/v1/chat?-._~09AZaz=-._~09AZaz"),
    Case("query-encoding", "blank, plus, slash and equals sign in a value", "/api/v1/chat?q=2%203%2B~%2F%3D"),
    Case("query-plus", "`+` in a query is a blank", "/api/v1/chat?q=1+2"),
    Case("query-utf8", "UTF-8 in name and value", "/api/v1/chat?%E5%A4%A9=%E7%A9%BA"),
    Case("query-no-value", "a name alone gets an equals sign", "/api/v1/chat?flag"),
    Case("query-empty-value", "an empty value", "/api/v1/chat?flag="),
    Case("query-action", "Action and Version, as the Node SDK sends", "/api/v1/chat?Version=2024-01-01&Action=chat"),
]
HEADERS = [
    Case("header-order", "names sorted and in lower case", headers=typed(("X-B", "2"), ("X-A", "1"))),
    Case("header-trim", "blanks around a value are not signed", headers=typed(("X-Note", "  a \t"))),
    Case("header-inner-spaces", "blanks inside a value are", headers=typed(("X-Note", "a  b   c"))),
    Case("header-empty-value", "an empty value keeps its line (Go, cert)", headers=typed(("X-Tt-Logid", ""))),
    Case("header-logid-signed", "Go signs its log id", headers=typed(("X-Tt-Logid", "20240703144826ABC"))),
    Case(
        "header-logid-unsigned",
        "Python and Java do not",
        headers=typed(("x-tt-logid", "20240703144826ABC")),
        signed=ONLY_FOUR,
    ),
    Case("header-charset", "Content-Type with a parameter", headers=(("Content-Type", f"{JSON}; charset=utf-8"),)),
    Case("header-content-md5", "Content-Md5 is signed", headers=typed(("Content-Md5", "1B2M2Y8AsgTpgAmY7PhCfg=="))),
    Case("header-expires", "X-Expires shortens the window", headers=typed(("X-Expires", "60"))),
    Case("header-date-only", "X-Date alone, as the Java core SDK signs", "/", signed=("x-date",), service="ark"),
]
HOSTS = [
    Case("host-port-80", "port 80 is not signed", host=f"{HOST}:80"),
    Case("host-port-443", "port 443 is not signed", host=f"{HOST}:443"),
    Case("host-port-kept", "any other port is", host="127.0.0.1:8000"),
    Case("host-ipv6", "brackets and port", host="[::1]:8000"),
    Case("host-ipv6-port-443", "brackets without port 443", host="[::1]:443"),
]
SCOPES = [
    Case("token", "a session token is a signed header", token=SESSION_TOKEN),
    Case("region-literal", "region `Region`, LangChain's default", region="Region"),
    Case(
        "service-ark", "GetApiKey; service `ark`", "/?Action=GetApiKey&Version=2024-01-01", body=KEY_CALL, service="ark"
    ),
    Case(
        "service-ark-invocation",
        "the headers of the Python core SDK 5; service `ark`",
        "/?Action=GetApiKey&Version=2024-01-01",
        headers=typed(
            ("X-Sdk-Invocation-Id", "48bbec46-20d6-4ca3-a545-899aee2d6555"), ("X-Sdk-Request", "attempt=1; max=4")
        ),
        body=KEY_CALL,
        service="ark",
    ),
]
CASES = [*REQUESTS, *PATHS, *QUERIES, *HEADERS, *HOSTS, *SCOPES]


def files() -> dict[str, bytes]:
    """Every published file by its name under ``docs/signing/``."""
    found = {f"{case.name}/{case.name}.{kind}": text for case in CASES for kind, text in parts(case).items()}
    rows = "\n".join(f"| [{case.name}]({case.name}) | {case.shows} |" for case in CASES)
    readme = README.format(x_date=X_DATE, access_key_id=ACCESS_KEY_ID, secret=SECRET, rows=rows)
    return found | {"README.md": readme.encode()}


def parts(case: Case) -> dict[str, bytes]:
    """The five files of a case by their endings."""
    hashed = case.body if case.signed_body is None else case.signed_body
    added = sign(
        head(case, []),
        hashed,
        access_key_id=ACCESS_KEY_ID,
        secret=SECRET.encode(),
        region=case.region,
        service=case.service,
        x_date=X_DATE,
        session_token=case.token,
        signed=case.signed,
    )
    authorization = added.pop("Authorization")
    unsigned = [*case.headers, *added.items()]
    signed = [*unsigned, ("Authorization", authorization)]
    read = claim(head(case, signed), Policy(require_host=False), NOW_S)
    canonical = canonical_request(read.request, hashlib.sha256(hashed).digest())
    return {
        "req": message(case, unsigned),
        "creq": canonical,
        "sts": string_to_sign(canonical, X_DATE, case.region, case.service),
        "authz": authorization.encode(),
        "sreq": message(case, signed),
    }


def head(case: Case, headers: list[tuple[str, str]]) -> Head:
    path, _, query = case.target.partition("?")
    sent = [("Host", case.host), *(headers or case.headers)]
    return Head(case.method, path, query, tuple((name.lower().encode(), value.encode()) for name, value in sent))


def message(case: Case, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"{case.method} {case.target} HTTP/1.1", f"Host:{case.host}", *(f"{name}:{v}" for name, v in headers)]
    return "\n".join([*lines, "", ""]).encode() + case.body


def published() -> dict[str, bytes]:
    """What stands in the directory now."""
    return {str(path.relative_to(DIRECTORY)): path.read_bytes() for path in DIRECTORY.rglob("*") if path.is_file()}


def main(arguments: list[str]) -> int:
    """Writes the files, or checks them."""
    wanted = files()
    if arguments == ["--check"]:
        wrong = sorted(name for name in wanted.keys() | published() if wanted.get(name) != published().get(name))
        print("\n".join(f"out of date: docs/signing/{name}" for name in wrong) or "up to date")
        return 1 if wrong else 0
    for name, text in wanted.items():
        path = DIRECTORY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    print(f"{len(CASES)} cases written to {DIRECTORY}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
