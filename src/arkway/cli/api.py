"""``arkway api``: any signed call from the terminal, or as a curl command: what the vendor's API explorer does."""

from __future__ import annotations

import asyncio
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import aiohttp

JSON_FIRST = '{["-0123456789tfn'


@click.command("api", context_settings={"ignore_unknown_options": True})
@click.argument("call", metavar="ACTION|PATH")
@click.argument("parameters", nargs=-1, type=click.UNPROCESSED, metavar="[--Name VALUE]...")
@click.option("--url", default="", metavar="URL", help="The server; default: host and port of the settings.")
@click.option("--ak", envvar="VOLC_ACCESSKEY", default="", metavar="ID", help="Access key id; default VOLC_ACCESSKEY.")
@click.option("--sk", envvar="VOLC_SECRETKEY", default="", metavar="SECRET", help="Default VOLC_SECRETKEY.")
@click.option("--session-token", default="", metavar="TOKEN", help="Of a temporary access key.")
@click.option("--region", default="cn-beijing", show_default=True)
@click.option("--service", default="", help="Default: ml_maas for a path, ark for an action.")
@click.option("--version", "version", default="2024-01-01", show_default=True, help="The action's version.")
@click.option("--body", default="", metavar="JSON", help="The whole body: JSON, @FILE, or - for standard input.")
@click.option(
    "--curl", is_flag=True, help="Print the call as a curl command instead of making it (good for 15 minutes)."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document: status, headers and body of the answer."
)
@click.pass_context
def command(
    ctx: click.Context,
    call: str,
    parameters: tuple[str, ...],
    url: str,
    ak: str,
    sk: str,
    session_token: str,
    region: str,
    service: str,
    version: str,
    body: str,
    curl: bool,
    as_json: bool,
) -> None:
    """Sign a call with an access key pair and make it, or print it as curl.

    An ACTION is posted to the control plane (/?Action=...), a PATH as it is. Parameters become the JSON body: numbers,
    true, false and JSON are taken as such, a name given twice is a list, and so is one that ends in Ids.

    \b
    arkway api GetApiKey --ResourceType bot --ResourceIds bot-1 --DurationSeconds 21600
    arkway api /api/v1/tokenization --body '{"model": {"name": "skylark-chat"}, "text": "hello"}'
    arkway api /api/v2/endpoint/ep-1/chat --body @question.json --curl
    """
    from arkway.cli.where import server_url
    from arkway.core.errors import BadRequest
    from arkway.signing import KeyPair, signed_headers

    if not (ak and sk):
        raise click.ClickException(
            "no access key pair: set VOLC_ACCESSKEY and VOLC_SECRETKEY (`arkway aksk create` makes a pair)"
        )
    is_path = call.startswith("/")
    target = server_url(ctx, url) + (call if is_path else f"/?Action={call}&Version={version}")
    pair = KeyPair(ak, sk, region, service or ("ml_maas" if is_path else "ark"), session_token)
    data = _body(body, parameters)
    try:
        headers = signed_headers(pair, "POST", target, data, _now())
    except BadRequest as error:
        raise click.ClickException(error.message) from None
    if curl:
        click.echo(_as_curl(target, headers, data))
    else:
        raise SystemExit(asyncio.run(_call(target, headers, data, as_json=as_json)))


def parsed(parameters: tuple[str, ...]) -> dict[str, Any]:
    """``--Name value`` pairs as a body. Raises UsageError."""
    body: dict[str, Any] = {}
    left = list(parameters)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if not name.startswith("--") or len(name) < 3:
            raise click.UsageError(f"expected --Name VALUE, got `{name}`")
        if not equals:
            if not left:
                raise click.UsageError(f"`{name}` needs a value")
            value = left.pop(0)
        _put(body, name[2:], _value(value))
    return body


def _put(body: dict[str, Any], name: str, value: Any) -> None:
    if name in body:
        held = body[name]
        body[name] = [*held, value] if isinstance(held, list) else [held, value]
    elif name.endswith("Ids") and not isinstance(value, list):
        body[name] = [value]
    else:
        body[name] = value


def _value(text: str) -> Any:
    import orjson

    if text[:1] and text[0] in JSON_FIRST:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text


def _body(body: str, parameters: tuple[str, ...]) -> bytes:
    import orjson

    if body and parameters:
        raise click.UsageError("give either --body or parameters, not both")
    if not body:
        return orjson.dumps(parsed(parameters))
    if body == "-":
        return sys.stdin.buffer.read()
    if body.startswith("@"):
        try:
            with click.open_file(body[1:], "rb") as file:
                return bytes(file.read())
        except OSError as error:
            raise click.ClickException(f"the body {body[1:]} cannot be read: {error.strerror}") from None
    return body.encode()


def _now() -> str:
    import time

    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def _as_curl(url: str, headers: dict[str, str], data: bytes) -> str:
    words = ["curl", "-sS", url, *(word for name, value in headers.items() for word in ("-H", f"{name}: {value}"))]
    try:
        return shlex.join([*words, "--data-raw", data.decode()])
    except UnicodeDecodeError:
        raise click.ClickException(
            "the body is not UTF-8, so that no command line holds it; call without --curl"
        ) from None


async def _call(url: str, headers: dict[str, str], data: bytes, *, as_json: bool) -> int:
    """Prints the answer as it comes, or whole; the exit code says whether it is one of success."""
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(None)) as session,
            session.post(url, data=data, headers=headers, allow_redirects=False) as response,
        ):
            await (_print_document(response) if as_json else _print_as_it_comes(response))
            return 0 if response.status < 400 else 1
    except aiohttp.ClientSSLError as error:
        raise click.ClickException(
            f"no secure connection to {url}: {error}; for a certificate of `arkway tls init`, set SSL_CERT_FILE to the "
            "file that `arkway tls show` names as the authority's"
        ) from None
    except aiohttp.ClientConnectionError:
        raise click.ClickException(f"no server answers at {url}; start one with `arkway serve`") from None
    except aiohttp.ClientError as error:
        raise click.ClickException(f"the call of {url} failed: {error}") from None


async def _print_as_it_comes(response: aiohttp.ClientResponse) -> None:
    async for piece in response.content.iter_any():
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    sys.stdout.buffer.write(b"\n")


async def _print_document(response: aiohttp.ClientResponse) -> None:
    import orjson

    from arkway.cli.database import echo_json

    text = await response.text(errors="replace")
    heads = {name.lower(): value for name, value in response.headers.items()}
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        body = text
    echo_json({"status": response.status, "headers": heads, "body": body})
