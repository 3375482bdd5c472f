"""``arkway upstreams``: other model servers that Arkway asks on its callers' behalf."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arkway.cli.database import as_json_option, echo_json, key_ring, moment, now_s, opened, print_table
from arkway.cli.groups import card_options, warn_of_tokenizer
from arkway.cli.tenant import actor

if TYPE_CHECKING:
    import sqlalchemy as sa

    from arkway.admin.upstreams import UpstreamInfo, Upstreams
    from arkway.backends.upstream.upstream import UpstreamServer
    from arkway.core.upstream import Credential, Group, Upstream
    from arkway.stores.keyring import KeyRing
    from arkway.stores.recorded import Transactions

MODELS_SHOWN = 10
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@click.group("upstreams")
def command() -> None:
    """Add, change and remove other model servers.

    An upstream is any server that speaks the OpenAI-like API (vLLM, SGLang, llama-server, Ollama, another Arkway), or
    the vendor's own Ark (`--kind ark`). Which models it answers for is said by groups (`arkway groups`); `--serve`
    makes them along the way.
    """


def _settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """What `add` and `update` both take; None = nothing was said."""
    options = (
        click.option("--kind", type=click.Choice(["openai", "ark"]), help="Default openai; ark: the vendor's own."),
        click.option("--key-stdin", is_flag=True, help="Read the API key from standard input."),
        click.option("--key-env", metavar="VAR", help="Take the API key from this variable of the environment."),
        click.option("--access-key-id", metavar="ID", help="An access key pair in the place of an API key (ark)."),
        click.option("--secret-stdin", is_flag=True, help="Read the pair's secret access key from standard input."),
        click.option("--secret-env", metavar="VAR", help="Take the pair's secret access key from this variable."),
        click.option("--region", help="Of the access key pair; default cn-beijing."),
        click.option("--ca-file", help="PEM file of the authorities to trust; default: the system's. Empty: those."),
        click.option("--connections-max", type=int, help="Connections of one process at most; default 4096."),
        click.option("--connect-s", type=float, help="Seconds until connected; default 3."),
        click.option("--first-byte-s", type=float, help="Seconds until an answer begins; default 60."),
        click.option("--idle-s", type=float, help="Seconds between two pieces of an answer; default 45."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command("add")
@click.argument("name")
@click.argument("url")
@_settings
@click.option(
    "--serve",
    "served",
    multiple=True,
    metavar="MODEL[=UPSTREAM_MODEL]",
    help="Serve this model of it, perhaps under another name; makes group and endpoint. May be repeated.",
)
@card_options
@as_json_option
@click.pass_context
def add_upstream(
    ctx: click.Context, /, name: str, url: str, served: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Add a server as NAME; its URL ends where /chat/completions begins. Running servers follow within two seconds.

    The key is encrypted (`arkway secrets`), and no command shows it again.

    \b
    arkway upstreams add vllm http://127.0.0.1:8000/v1 --serve qwen3-8b=Qwen/Qwen3-8B --context-tokens 40960
    arkway upstreams add ollama http://127.0.0.1:11434/v1 --serve qwen3:0.6b
    arkway upstreams add ark https://ark.cn-beijing.volces.com/api/v3 --kind ark --key-env ARK_API_KEY \\
        --serve doubao=ep-20250101000000-abcde
    arkway upstreams add ark https://ark.cn-beijing.volces.com/api/v3 --kind ark \\
        --access-key-id AKLT… --secret-stdin < secret.txt
    """
    from arkway.core.upstream import Credential, Upstream

    credential = _credential(options) or Credential()
    upstream = Upstream(name=name, base_url=url, **_told(options))
    models = [_group(name, text, options) for text in served]
    if not as_json:
        _warn(url, credential)

    with opened(ctx) as store:
        ring = key_ring(ctx)

        def work(connection: sa.Connection) -> tuple[UpstreamInfo, list[dict[str, Any]]]:
            made = _over(connection, ring).add(upstream, credential, now_s())
            return made, [_serve(connection, group) for group in models]

        info, serving = store.run_sync(work, tell=True)
    warn_of_tokenizer(ctx, options["tokenizer"])
    if as_json:
        echo_json({**_document(info), "serving": serving})
        return
    _print(info)
    for each in serving:
        click.echo(f"{'serves':<18}{each['model']}:{each['version']}  endpoint {', '.join(each['endpoints'])}")
    if not serving:
        click.echo(f"No model is served by it yet: arkway groups set MODEL --member {name}/UPSTREAM_MODEL", err=True)


@command.command("update")
@click.argument("name")
@click.option("--url", help="Another place.")
@_settings
@click.option("--no-key", is_flag=True, help="Take its key away.")
@as_json_option
@click.pass_context
def update_upstream(
    ctx: click.Context, /, name: str, url: str | None, no_key: bool, as_json: bool, **options: Any
) -> None:
    """Change an upstream: what is not named stays. Calls under way end as they began."""
    from arkway.admin.upstreams import UpstreamChange
    from arkway.core.upstream import Credential

    credential = _credential(options)
    if no_key and credential is not None:
        raise click.UsageError("give a key or --no-key, not both")
    change = UpstreamChange(base_url=url, credential=Credential() if no_key else credential, **_told(options))
    if change == UpstreamChange():
        raise click.UsageError("name what is to change: --url, --kind, a key, --region, …")
    with opened(ctx) as store:
        info = upstreams_over(store, key_ring(ctx)).update(name, change, now_s())
    if as_json:
        echo_json(_document(info))
        return
    _print(info)


@command.command("list")
@as_json_option
@click.pass_context
def list_upstreams(ctx: click.Context, as_json: bool) -> None:
    """List upstreams; nothing of their secrets is shown."""
    with opened(ctx) as store:
        upstreams = upstreams_over(store, key_ring(ctx)).list()
    if as_json:
        echo_json([_document(info) for info in upstreams])
        return
    if not upstreams:
        click.echo("there is no upstream; `arkway upstreams add NAME URL` makes one")
        return
    rows = [(info.name, info.base_url, info.kind, _shown(info), moment(info.updated_at)) for info in upstreams]
    print_table(("name", "url", "kind", "shows", "changed (UTC)"), rows)


@command.command("show")
@click.argument("name")
@as_json_option
@click.pass_context
def show_upstream(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show one upstream; nothing of its secret is shown."""
    with opened(ctx) as store:
        info = upstreams_over(store, key_ring(ctx)).show(name)
    if as_json:
        echo_json(_document(info))
        return
    _print(info)


@command.command("remove")
@click.argument("name")
@as_json_option
@click.pass_context
def remove_upstream(ctx: click.Context, name: str, as_json: bool) -> None:
    """Forget an upstream and its secret; refused while it is a member of a group."""
    with opened(ctx) as store:
        upstreams_over(store, key_ring(ctx)).remove(name)
    if as_json:
        echo_json({"name": name, "status": "removed"})
        return
    click.echo(f"removed {name}")


@command.command("check")
@click.argument("name")
@click.option("--model", "models", multiple=True, help="Have this model of it write one token; may be repeated.")
@as_json_option
@click.pass_context
def check_upstream(ctx: click.Context, name: str, models: tuple[str, ...], as_json: bool) -> None:
    """Ask an upstream for its list of models, and for one token of each model that groups take from it.

    A model that only embeds is asked for one embedding. With an access key pair there is no list: its temporary keys
    are for one model each. Over the same client, key and certificates as the server. The exit code is 1 when anything
    fails.
    """
    import asyncio

    from arkway.stores.upstreams import known

    with opened(ctx) as store:
        ring = key_ring(ctx)
        upstreams_over(store, ring).show(name)
        there = known(store, ring)
    pair = next((each for each in there.upstreams if each[0].name == name), None)
    if pair is None:
        raise click.ClickException(
            f"the secret of `{name}` does not decrypt; arkway upstreams update {name} sets another"
        )
    chats = _chatting(there.groups, name)
    wanted = {model: chats.get(model, True) for model in models} or chats
    results = asyncio.run(_checked(*pair, wanted))
    if as_json:
        echo_json([{"what": what, "ok": not wrong, "found": wrong or found} for what, found, wrong in results])
    else:
        for what, found, wrong in results:
            click.echo(f"{'FAILED' if wrong else 'ok':<8}{what}: {wrong or found}")
        if not wanted:
            click.echo("No group takes a model from it; name one with --model to have it write a token.", err=True)
    if any(wrong for *_, wrong in results):
        raise SystemExit(1)


def _chatting(groups: Iterable[Group], upstream: str) -> dict[str, bool]:
    """The models that groups take from the upstream, and whether they chat or only embed."""
    found: dict[str, bool] = {}
    for group in groups:
        for member in group.members:
            if member.upstream == upstream:
                found[member.model] = found.get(member.model, False) or "chat" in group.card.capabilities
    return found


async def _checked(
    upstream: Upstream, credential: Credential, models: Mapping[str, bool]
) -> list[tuple[str, str, str]]:
    """What was asked, what was found, and what was wrong. ``models``: whether each chats."""
    from arkway.backends.upstream.upstream import UpstreamServer
    from arkway.core.errors import ArkwayError

    results: list[tuple[str, str, str]] = []
    server = UpstreamServer(upstream, credential)
    try:
        try:
            results.append(("models", await _listed(server), ""))
        except ArkwayError as error:
            results.append(("models", "", error.message))
        for model, chats in models.items():
            try:
                await (server.check(model) if chats else server.check_embedding(model))
                results.append((model, "one token" if chats else "one embedding", ""))
            except ArkwayError as error:
                results.append((model, "", error.message))
    finally:
        await server.aclose()
    return results


async def _listed(server: UpstreamServer) -> str:
    if server.upstream.auth == "aksk":
        return "not asked for: a temporary key is for one model"
    names = await server.models()
    return f"{len(names)}: {', '.join(names[:MODELS_SHOWN])}" + (", …" if len(names) > MODELS_SHOWN else "")


def upstreams_over(store: Transactions, ring: KeyRing) -> Upstreams:
    """The commands on upstreams over a store or an open transaction."""
    from arkway.admin.upstreams import Upstreams
    from arkway.stores.upstreams import UpstreamTable

    return Upstreams(UpstreamTable(store, ring), actor())


def _over(connection: sa.Connection, ring: KeyRing) -> Upstreams:
    from arkway.stores.recorded import Within

    return upstreams_over(Within(connection), ring)


def _told(options: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given."""
    names = ("kind", "region", "connections_max", "connect_s", "first_byte_s", "idle_s")
    told = {name: options[name] for name in names if options[name] is not None}
    if options["ca_file"] is not None:
        told["ca_file"] = _file(options["ca_file"])
    return told


def _file(path: str) -> str:
    if not path:
        return ""
    found = Path(path).expanduser().resolve()
    if not found.is_file():
        raise click.ClickException(f"there is no file {found}; --ca-file names a PEM file, or nothing")
    return str(found)


def _credential(options: dict[str, Any]) -> Credential | None:
    """What was given, None for nothing."""
    from arkway.core.upstream import Credential

    sources = [name for name in ("key_stdin", "key_env", "secret_stdin", "secret_env") if options[name]]
    pair = options["access_key_id"]
    if len(sources) > 1:
        raise click.UsageError("give one of --key-stdin, --key-env, --secret-stdin and --secret-env")
    if not sources and not pair:
        return None
    if not sources or bool(pair) != sources[0].startswith("secret"):
        raise click.UsageError(
            "an API key comes by --key-stdin or --key-env; an access key pair is --access-key-id with --secret-stdin "
            "or --secret-env"
        )
    secret = _read(options["key_env"] or options["secret_env"])
    return Credential(access_key_id=pair, secret_access_key=secret) if pair else Credential(key=secret)


def _read(variable: str | None) -> str:
    """The secret: of a variable, else of standard input."""
    import os

    if variable:
        found = os.environ.get(variable, "").strip()
    elif sys.stdin.isatty():
        found = click.prompt("Key", hide_input=True, err=True)
    else:
        found = sys.stdin.read().strip()
    if not found:
        raise click.ClickException(
            f"the variable {variable} is not set or empty" if variable else "there is no key on standard input"
        )
    return found


def _warn(url: str, credential: Credential) -> None:
    from urllib.parse import urlsplit

    from arkway.admin.upstreams import auth_of

    try:
        place = urlsplit(url)
        open_road = place.scheme == "http" and place.hostname not in LOOPBACK
    except ValueError:
        return  # the command says what is wrong with it
    if open_road and auth_of(credential) != "none":
        click.echo(
            "Warning: over http:// the key travels in clear; use https:// outside of a network of yours.", err=True
        )


def _group(upstream: str, text: str, options: dict[str, Any]) -> Group:
    """``MODEL[=UPSTREAM_MODEL]``; MODEL is NAME[:VERSION]."""
    from arkway.admin.groups import FIRST_VERSION, named
    from arkway.cli.groups import made_card
    from arkway.core.upstream import Group, Member

    ours, _, theirs = text.partition("=")
    name, version = named(ours)
    card = made_card(name, version or FIRST_VERSION, options)
    return Group(card=card, members=(Member(upstream=upstream, model=theirs or ours),))


def _serve(connection: sa.Connection, group: Group) -> dict[str, Any]:
    """Makes the group, which may not be there yet, and its endpoint."""
    import msgspec

    from arkway.cli.groups import endpoint_for, groups_over
    from arkway.stores.recorded import Within

    groups, card = groups_over(Within(connection)), group.card
    if groups.version(card.name, card.version) is not None:
        raise click.ClickException(
            f"{card.name}:{card.version} is there already, nothing was done; add the upstream without --serve, then "
            "name all members: arkway groups set"
        )
    is_default = groups.stays_default(card.name, card.version)
    made = groups.set(msgspec.structs.replace(group, is_default=is_default), now_s())
    endpoints = [endpoint.id for endpoint in endpoint_for(Within(connection), card.name)]
    return {"model": made.card.name, "version": made.card.version, "endpoints": endpoints}


def _document(info: UpstreamInfo) -> dict[str, Any]:
    import msgspec

    return msgspec.structs.asdict(info)


def _shown(info: UpstreamInfo) -> str:
    return {"none": "nothing", "key": "an API key", "aksk": f"the pair {info.access_key_id}"}[info.auth]


def _print(info: UpstreamInfo) -> None:
    facts = (
        ("name", info.name),
        ("url", info.base_url),
        ("kind", info.kind),
        ("shows", _shown(info)),
        ("region", info.region if info.auth == "aksk" else ""),
        ("authorities", info.ca_file),
        ("connections", f"at most {info.connections_max}"),
        (
            "waits",
            f"{info.connect_s:g} s to connect, {info.first_byte_s:g} s to begin, {info.idle_s:g} s between pieces",
        ),
        ("changed", f"{moment(info.updated_at)} UTC"),
    )
    for label, value in facts:
        if value:
            click.echo(f"{label:<18}{value}")
