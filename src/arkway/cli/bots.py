"""``arkway bots``: endpoints with a prompt of their own, that look things up before they answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arkway.cli.database import as_json_option, collections_known, echo_json, moment, now_s, opened, print_table
from arkway.cli.tenant import Place, actor, check_place, place_options

if TYPE_CHECKING:
    from arkway.admin.bots import Bots
    from arkway.core.bot import Bot, BotAction
    from arkway.stores.store import Store

INTENTS = ("always", "never", "auto", "llm", "tools")
CITATIONS = ("all", "cited", "none")


@click.group("bots")
def command() -> None:
    """Make, change, stop and delete bots.

    A bot answers through one of your endpoints, under a prompt of its own, and may look things up first: in
    collections of documents (`arkway kb`), on the web, in the weather report. Callers name it by its id (`bot-…`)
    wherever an endpoint's id is taken, and get the sources beside the answer. Keys, limits and usage know it by its id
    as they know endpoints.
    """


def _settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """What `create` and `update` both take; None and () = nothing was said."""
    options = (
        click.option("--prompt", help="Put before the system messages of every request."),
        click.option(
            "--prompt-file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="Take the prompt from this file (UTF-8).",
        ),
        click.option(
            "--action",
            "actions",
            multiple=True,
            metavar="ACTION",
            help="`knowledge:COLLECTION[,COLLECTION]`, `web_search[:PROVIDER]`, `web_search:local,COLLECTION` or "
            "`weather[:PROVIDER]`; may be repeated. `,limit=8` is how many results the model gets to see (5), "
            "`,deadline_s=2` how long it may take (3).",
        ),
        click.option(
            "--intent",
            type=click.Choice(INTENTS),
            help="When to look things up. auto (the default): when it would find something that fits, which asks no "
            "model; always; never; llm: the model is asked first; tools: the model calls for it.",
        ),
        click.option(
            "--citation",
            type=click.Choice(CITATIONS),
            help="Which sources go out: all (the default), those that the answer cites, or none.",
        ),
        click.option(
            "--lexicon", multiple=True, metavar="WORD", help="A word that asks for the web (auto); may be repeated."
        ),
        click.option(
            "--context-share",
            type=click.FloatRange(0, 1),
            help="How much of the model's context what was found may fill; default 0.4.",
        ),
        click.option("--moderation", metavar="STRATEGY", help="The strategy of moderation; empty: none of its own."),
        click.option("--description", help="For people to read."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command("create")
@click.option("--name", required=True, help="What you call it.")
@click.option("--endpoint", "endpoint_id", required=True, metavar="EP", help="The id of the endpoint that answers.")
@_settings
@as_json_option
@place_options
@click.pass_context
def create_bot(ctx: click.Context, /, place: Place, name: str, endpoint_id: str, as_json: bool, **given: Any) -> None:
    """Make a bot; running servers take calls to it within two seconds.

    \b
    arkway bots create --name helper --endpoint ep-… --prompt "You answer questions about our pumps."
    arkway bots create --name manuals --endpoint ep-… --action knowledge:manual,faq,limit=8 --citation cited
    arkway bots create --name news --endpoint ep-… --prompt-file news.txt --action web_search --action weather
    """
    values = _values(given)
    with opened(ctx) as store:
        bot = _bots(ctx, store, place).create(name, endpoint_id, now_s(), **values)
    _print(bot, as_json)


@command.command("list")
@as_json_option
@place_options
@click.pass_context
def list_bots(ctx: click.Context, place: Place, as_json: bool) -> None:
    """List bots: their ids are what callers send."""
    with opened(ctx) as store:
        bots = _bots(ctx, store, place).list()
    if as_json:
        echo_json(bots)
        return
    if not bots:
        click.echo("there is no bot; `arkway bots create` makes one")
        return
    rows = [(b.id, b.name, b.endpoint_id, _actions(b.actions), b.status, moment(b.created_at)) for b in bots]
    print_table(("id", "name", "endpoint", "actions", "status", "created (UTC)"), rows)


@command.command("show")
@click.argument("bot_id", metavar="ID")
@as_json_option
@place_options
@click.pass_context
def show_bot(ctx: click.Context, place: Place, bot_id: str, as_json: bool) -> None:
    """Show one bot, with its prompt."""
    with opened(ctx) as store:
        bot = _bots(ctx, store, place).show(bot_id)
    _print(bot, as_json)


@command.command("update")
@click.argument("bot_id", metavar="ID")
@click.option("--name", help="A new name.")
@click.option("--endpoint", "endpoint_id", metavar="EP", help="Another endpoint that answers.")
@_settings
@click.option("--no-actions", is_flag=True, help="It looks nothing up any more.")
@click.option("--no-lexicon", is_flag=True, help="The built-in words alone ask for the web.")
@as_json_option
@place_options
@click.pass_context
def update_bot(
    ctx: click.Context, /, place: Place, bot_id: str, no_actions: bool, no_lexicon: bool, as_json: bool, **given: Any
) -> None:
    """Change a bot: what is not named stays; actions and words take the place of those it had.

    \b
    arkway bots update bot-… --prompt-file prompt.txt
    arkway bots update bot-… --action knowledge:manual --action web_search --intent llm
    arkway bots update bot-… --no-actions
    """
    from arkway.core.bot import BotChange

    for flag, named in ((no_actions, "actions"), (no_lexicon, "lexicon")):
        if flag and given[named]:
            raise click.UsageError(f"--no-{named} says that there are none; leave it out, or the others")
    values = _values(given)
    values |= {"actions": ()} if no_actions else {}
    values |= {"lexicon": ()} if no_lexicon else {}
    change = BotChange(**values)
    if change == BotChange():
        raise click.UsageError("name what is to change, such as --prompt, --endpoint or --action")
    with opened(ctx) as store:
        bot = _bots(ctx, store, place).update(bot_id, change, now_s())
    _print(bot, as_json)


@command.command("delete")
@click.argument("bot_id", metavar="ID")
@as_json_option
@place_options
@click.pass_context
def delete_bot(ctx: click.Context, place: Place, bot_id: str, as_json: bool) -> None:
    """Delete a bot, for good; its usage stays on record."""
    with opened(ctx) as store:
        _bots(ctx, store, place).delete(bot_id, now_s())
    if as_json:
        echo_json({"id": bot_id, "status": "deleted"})
        return
    click.echo(f"deleted {bot_id}")


@command.command("stop")
@click.argument("bot_id", metavar="ID")
@as_json_option
@place_options
@click.pass_context
def stop_bot(ctx: click.Context, place: Place, bot_id: str, as_json: bool) -> None:
    """Refuse calls to a bot; running servers follow within two seconds."""
    with opened(ctx) as store:
        bots = _bots(ctx, store, place)
        bots.stop(bot_id, now_s())
        bot = bots.show(bot_id)
    _print(bot, as_json)


@command.command("start")
@click.argument("bot_id", metavar="ID")
@as_json_option
@place_options
@click.pass_context
def start_bot(ctx: click.Context, place: Place, bot_id: str, as_json: bool) -> None:
    """Take calls to a bot again."""
    with opened(ctx) as store:
        bots = _bots(ctx, store, place)
        bots.start(bot_id, now_s())
        bot = bots.show(bot_id)
    _print(bot, as_json)


def _bots(ctx: click.Context, store: Store, place: Place) -> Bots:
    from arkway.admin.bots import Bots
    from arkway.stores.bots import BotTable

    check_place(store, place)
    return Bots(BotTable(store), collections_known(ctx), *place, actor())


def _values(given: dict[str, Any]) -> dict[str, Any]:
    """What was said, as fields of a bot; errors are sentences."""
    from arkway.admin.bots import action_of
    from arkway.core.errors import InvalidField

    values = {name: value for name, value in given.items() if value not in (None, ()) and name != "prompt_file"}
    if given["prompt_file"] is not None:
        if given["prompt"] is not None:
            raise click.UsageError("give --prompt or --prompt-file, not both")
        values["prompt"] = _read(given["prompt_file"])
    if "actions" in values:
        try:
            values["actions"] = tuple(map(action_of, values["actions"]))
        except InvalidField as error:
            raise click.ClickException(error.message) from None
    return values


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"the prompt cannot be read from {path}: {error}") from None


def _actions(actions: tuple[BotAction, ...]) -> str:
    from arkway.admin.bots import written_action

    return " ".join(map(written_action, actions))


def _print(bot: Bot, as_json: bool) -> None:
    if as_json:
        echo_json(bot)
        return
    facts = (
        ("id", bot.id),
        ("name", bot.name),
        ("endpoint", bot.endpoint_id),
        ("status", bot.status),
        ("actions", _actions(bot.actions)),
        ("intent", bot.intent),
        ("citation", bot.citation),
        ("lexicon", ", ".join(bot.lexicon)),
        ("context share", f"{bot.context_share:g}"),
        ("moderation", bot.moderation),
        ("account", bot.account),
        ("project", bot.project),
        ("description", bot.description),
        ("created", f"{moment(bot.created_at)} UTC"),
        ("prompt", bot.prompt),
    )
    for label, value in facts:
        if value:
            click.echo(f"{label:<15}{value}")
