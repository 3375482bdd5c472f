"""``arkway groups``: the models that other servers answer for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from arkway.cli.database import as_json_option, echo_json, moment, now_s, opened, print_table
from arkway.cli.tenant import actor

if TYPE_CHECKING:
    from arkway.admin.groups import GroupInfo, Groups
    from arkway.core.model import Endpoint, ModelCard
    from arkway.core.upstream import Policy
    from arkway.stores.recorded import Transactions

CAPABILITIES = ("chat", "embeddings", "tokenization", "tools", "json", "logprobs", "images")
CARD_FIELDS = (
    "title",
    "capabilities",
    "context_tokens",
    "max_output_tokens",
    "default_output_tokens",
    "dimensions",
    "tokenizer",
)

POLICY_OPTIONS = {
    "attempts": (int, "Members asked for one call at most, the first among them; default 2."),
    "retry_share": (float, "Second attempts as a share of all calls, at most; default 0.2."),
    "breaker_ratio": (float, "A member is left out when this share of its calls fails; default 0.5."),
    "breaker_calls": (int, "… of at least so many calls; default 10."),
    "breaker_window_s": (float, "… within so many seconds; default 10."),
    "breaker_open_s": (float, "Seconds until one call tries it again; default 5."),
    "probe_s": (float, "Ask every member for one token this often; default 0: its calls say how it is."),
}


@click.group("groups")
def command() -> None:
    """See and choose which other servers answer for which models.

    A group is a model like any other: it has a name, a version, a card and endpoints, and every API serves it. Its
    members are models of upstreams (`arkway upstreams add`). One call goes to one member: to the normal ones of the
    lowest priority number that can serve, by weight; a canary gets its share of the calls, a shadow a copy of its
    share, whose answers nobody sees.
    """


def card_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what a model's card says, which the command gets as ``title``, ``capabilities`` and so on."""
    options = (
        click.option("--title", default="", help="For people to read; default: the name."),
        click.option(
            "--capability",
            "capabilities",
            multiple=True,
            type=click.Choice(CAPABILITIES),
            help="What the model can do; may be repeated. Default: chat, tools and json.",
        ),
        click.option("--context-tokens", type=int, default=0, help="Prompt and answer together; default 32768."),
        click.option("--max-output-tokens", type=int, default=0, help="The longest answer; default: the context."),
        click.option("--default-output-tokens", type=int, default=0, help="When a call sets no limit; default 4096."),
        click.option("--dimensions", type=int, default=0, help="Length of the vectors of an embedding model."),
        click.option(
            "--tokenizer",
            metavar="MODEL",
            help="An installed model with the same tokens, for servers without tokenization; empty: none.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _policy_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, (kind, text) in reversed(POLICY_OPTIONS.items()):
        function = click.option(f"--{name.replace('_', '-')}", type=kind, help=text)(function)
    sticking = click.Choice(["nothing", "session", "prefix"])
    text = "Calls of one session (`user`, else the key), or with one beginning of the prompt, go to one member."
    return click.option("--stick-to", type=sticking, help=text)(function)


@command.command("set")
@click.argument("model", metavar="NAME[:VERSION]")
@click.option(
    "--member",
    "members",
    multiple=True,
    required=True,
    metavar="UPSTREAM/MODEL[,…]",
    help="A model of an upstream, with weight=, priority=, role=canary|shadow, share= after commas; may be repeated.",
)
@card_options
@_policy_options
@click.option("--default/--no-default", "is_default", default=None, help="The version that the bare name means.")
@as_json_option
@click.pass_context
def set_group(
    ctx: click.Context,
    /,
    model: str,
    members: tuple[str, ...],
    is_default: bool | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Let members answer for a model; running servers follow within two seconds.

    The members take the place of those it had; what else is left out stays as it was, or has its default in a new
    group. A new model gets an endpoint. Without a VERSION it is version 1.

    \b
    arkway groups set qwen3-8b --member vllm/Qwen/Qwen3-8B
    arkway groups set qwen3-8b --member gpu1/Qwen/Qwen3-8B,weight=70 --member gpu2/Qwen/Qwen3-8B,weight=30
    arkway groups set qwen3-8b --member gpu1/Qwen/Qwen3-8B --member cloud/doubao-pro,priority=1 --stick-to prefix
    arkway groups set qwen3-8b --member gpu1/Qwen/Qwen3-8B --member new/Qwen/Qwen3-8B,role=canary,share=5
    arkway groups set bge-m3 --member vllm/BAAI/bge-m3 --capability embeddings --dimensions 1024
    """
    import sqlalchemy as sa

    from arkway.admin.groups import FIRST_VERSION, member_of, named
    from arkway.core.upstream import Group
    from arkway.stores.recorded import Within

    name, version = named(model)
    chosen = tuple(map(member_of, members))

    def work(connection: sa.Connection) -> tuple[GroupInfo, tuple[Endpoint, ...]]:
        groups = groups_over(Within(connection))
        before = groups.version(name, version or FIRST_VERSION)
        card = made_card(name, version or FIRST_VERSION, options, before)
        flag = groups.stays_default(card.name, card.version) if is_default is None else is_default
        group = Group(card=card, members=chosen, policy=_policy(options, before), is_default=flag)
        return groups.set(group, now_s()), endpoint_for(Within(connection), name)

    with opened(ctx) as store:
        info, endpoints = store.run_sync(work, tell=True)
    warn_of_tokenizer(ctx, options["tokenizer"])
    if as_json:
        echo_json({**_document(info), "endpoints": [endpoint.id for endpoint in endpoints]})
        return
    _print(info, tuple(endpoint.id for endpoint in endpoints))


@command.command("list")
@as_json_option
@click.pass_context
def list_groups(ctx: click.Context, as_json: bool) -> None:
    """List groups and their members."""
    from arkway.admin.groups import written_member

    with opened(ctx) as store:
        groups = groups_over(store).list()
    if as_json:
        echo_json([_document(info) for info in groups])
        return
    if not groups:
        click.echo("there is no group; `arkway groups set` makes one, and so does `arkway upstreams add … --serve`")
        return
    rows = [
        (
            f"{info.card.name}:{info.card.version}",
            "yes" if info.is_default else "",
            ", ".join(info.card.capabilities),
            "  ".join(map(written_member, info.members)),
            moment(info.updated_at),
        )
        for info in groups
    ]
    print_table(("model", "default", "can", "members", "changed (UTC)"), rows)


@command.command("show")
@click.argument("model", metavar="NAME[:VERSION]")
@as_json_option
@click.pass_context
def show_group(ctx: click.Context, model: str, as_json: bool) -> None:
    """Show one group: card, members, policy."""
    from arkway.admin.groups import named

    with opened(ctx) as store:
        info = groups_over(store).show(*named(model))
    if as_json:
        echo_json(_document(info))
        return
    _print(info, ())


@command.command("remove")
@click.argument("model", metavar="NAME[:VERSION]")
@as_json_option
@click.pass_context
def remove_group(ctx: click.Context, model: str, as_json: bool) -> None:
    """Take a group away; calls under way end as they began, its endpoints stay and answer that nothing serves them."""
    from arkway.admin.groups import named

    with opened(ctx) as store:
        info = groups_over(store).remove(*named(model))
    if as_json:
        echo_json({"model": info.card.name, "version": info.card.version, "status": "removed"})
        return
    click.echo(f"removed {info.card.name}:{info.card.version}")


def groups_over(store: Transactions) -> Groups:
    """The commands on groups over a store or an open transaction."""
    from arkway.admin.groups import Groups
    from arkway.stores.upstreams import GroupTable

    return Groups(GroupTable(store), actor())


def made_card(name: str, version: str, options: dict[str, Any], before: GroupInfo | None = None) -> ModelCard:
    """A card from the options of `card_options`; what they leave out is as it was ``before``."""
    import msgspec

    from arkway.admin.groups import card_of, with_tokenizer

    told = {field: options[field] for field in CARD_FIELDS if options[field]}
    if before is None:
        return card_of(name, version, **told)
    card = msgspec.structs.replace(before.card, **told)
    given = options["tokenizer"]
    return with_tokenizer(card, card.tokenizer if given is None else given)


def warn_of_tokenizer(ctx: click.Context, name: str | None) -> None:
    """Where the model that it is of is not installed: calls would be refused until it is."""
    from arkway.admin.groups import named
    from arkway.cli.context import settings
    from arkway.core.errors import Misconfigured
    from arkway.models.catalogue import catalogued
    from arkway.models.store import ModelStore

    if not name or ModelStore(settings(ctx).home / "models").find(*named(name)) is not None:
        return
    try:
        catalogued(name)
        reason = f"`arkway pull {name}` installs it"
    except Misconfigured as unknown:
        reason = unknown.message
    click.echo(f"Warning: the model `{name}`, whose tokenizer is to be used, is not installed here: {reason}", err=True)


def endpoint_for(store: Transactions, model_name: str) -> tuple[Endpoint, ...]:
    """The model's endpoints; one is made where it never had any."""
    from arkway.admin.endpoints import Endpoints
    from arkway.stores.tables import EndpointTable

    endpoints = Endpoints(EndpointTable(store), actor=actor())
    endpoints.ensure([model_name], now_s())
    return tuple(endpoint for endpoint in endpoints.list() if endpoint.model_name == model_name)


def _policy(options: dict[str, Any], before: GroupInfo | None) -> Policy:
    import msgspec

    from arkway.core.upstream import Policy

    told = {name: options[name] for name in ("stick_to", *POLICY_OPTIONS) if options[name] is not None}
    return msgspec.structs.replace(before.policy if before is not None else Policy(), **told)


def _document(info: GroupInfo) -> dict[str, Any]:
    import msgspec

    told = msgspec.structs.asdict(info)
    return {"model": info.card.name, "version": info.card.version, **told}


def _print(info: GroupInfo, endpoints: tuple[str, ...]) -> None:
    from arkway.admin.groups import written_member

    card, policy = info.card, info.policy
    answers = f"{card.default_output_tokens} tokens, at most {card.max_output_tokens}"
    facts = [
        ("model", f"{card.name}:{card.version}"),
        ("default", "yes" if info.is_default else "no"),
        ("can", ", ".join(card.capabilities)),
        ("context", f"{card.context_tokens} tokens"),
        ("answers", answers if card.max_output_tokens else ""),
        ("dimensions", str(card.dimensions or "")),
        ("tokenizer", card.tokenizer),
        *(("member", written_member(member)) for member in info.members),
        ("sticks to", policy.stick_to),
        *((name.replace("_", " "), f"{getattr(policy, name):g}") for name in POLICY_OPTIONS),
        *(("endpoint", endpoint) for endpoint in endpoints),
    ]
    for label, value in facts:
        if value:
            click.echo(f"{label:<18}{value}")
