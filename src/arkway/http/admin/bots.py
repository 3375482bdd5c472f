"""Operations on bots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from arkway.admin.bots import (
    ACTIONS_MAX,
    COLLECTION_MAX_CHARACTERS,
    COLLECTIONS_MAX,
    DEADLINE_MAX_S,
    DEADLINE_MIN_S,
    PROMPT_MAX_CHARACTERS,
    RESULTS_MAX,
    WORD_MAX_CHARACTERS,
    WORDS_MAX,
    BotNotFound,
)
from arkway.core.bot import ACTION_DEADLINE_S, ActionKind, Bot, BotAction, BotChange, Citation, Intent
from arkway.http.admin.commands import Commands
from arkway.http.admin.errors import NotFound
from arkway.http.admin.operations import Operation, Request
from arkway.http.admin.shapes import Description, Id, Name, Removed, Taken
from arkway.http.admin.tenants import OLDEST_FIRST

_TEXT = r"^[^\x00]*$"
CollectionName = Annotated[str, Meta(min_length=1, max_length=COLLECTION_MAX_CHARACTERS, pattern=r"^[^\x00,=:]*$")]
Prompt = Annotated[
    str,
    Meta(
        max_length=PROMPT_MAX_CHARACTERS,
        pattern=_TEXT,
        description="Put before the system messages of every request.",
    ),
]
Word = Annotated[str, Meta(min_length=1, max_length=WORD_MAX_CHARACTERS, pattern=_TEXT)]
Lexicon = Annotated[tuple[Word, ...], Meta(max_length=WORDS_MAX, description="Words that ask for the web (`auto`).")]
Share = Annotated[float, Meta(ge=0, le=1, description="How much of the context what was found may fill.")]
Strategy = Annotated[str, Meta(max_length=128, pattern=_TEXT)]


class ActionGiven(Taken, frozen=True, kw_only=True):
    """``knowledge`` has ``collections``, the others perhaps a ``provider``; ``limit``: results that the model sees."""

    kind: ActionKind
    collections: Annotated[tuple[CollectionName, ...], Meta(max_length=COLLECTIONS_MAX)] = ()
    provider: Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9_-]{0,62})?$", description="Empty = the default one.")] = (
        ""
    )
    limit: Annotated[int, Meta(ge=1, le=RESULTS_MAX)] = 5
    deadline_s: Annotated[float, Meta(ge=DEADLINE_MIN_S, le=DEADLINE_MAX_S)] = ACTION_DEADLINE_S


Actions = Annotated[tuple[ActionGiven, ...], Meta(max_length=ACTIONS_MAX)]


class CreateBot(Taken, frozen=True, kw_only=True):
    """A new running bot over one of the project's endpoints."""

    name: Name
    endpoint_id: Id
    prompt: Prompt = ""
    actions: Actions = ()
    intent: Intent = "auto"
    citation: Citation = "all"
    lexicon: Lexicon = ()
    context_share: Share = 0.4
    moderation: Strategy = ""
    description: Description = ""


class UpdateBot(Taken, frozen=True, kw_only=True):
    """What is left out stays as it is."""

    name: Name | UnsetType = UNSET
    endpoint_id: Id | UnsetType = UNSET
    prompt: Prompt | UnsetType = UNSET
    actions: Actions | UnsetType = UNSET
    intent: Intent | UnsetType = UNSET
    citation: Citation | UnsetType = UNSET
    lexicon: Lexicon | UnsetType = UNSET
    context_share: Share | UnsetType = UNSET
    moderation: Strategy | UnsetType = UNSET
    description: Description | UnsetType = UNSET


def list_bots(commands: Commands, request: Request) -> Sequence[Bot]:
    """Those that the caller's key is for."""
    allowed = request.caller.endpoints
    found = commands.bots(request.account, request.project, request.actor).list()
    return [bot for bot in found if not allowed or bot.id in allowed]


def create_bot(commands: Commands, request: Request) -> Bot:
    """Raises InvalidField for an endpoint or a collection that the project does not have."""
    given = _given(request.body)
    name, endpoint_id = given.pop("name"), given.pop("endpoint_id")
    bots = commands.bots(request.account, request.project, request.actor)
    return bots.create(name, endpoint_id, request.now_s, **given)


def show_bot(commands: Commands, request: Request) -> Bot:
    """Raises NotFound."""
    bot = next((bot for bot in list_bots(commands, request) if bot.id == request.name), None)
    if bot is None:
        raise NotFound("bot", request.name)
    return bot


def update_bot(commands: Commands, request: Request) -> Bot:
    """Raises NotFound, InvalidField as `create_bot`."""
    bot, given = show_bot(commands, request), _given(request.body)
    if not given:
        return bot
    try:
        bots = commands.bots(request.account, request.project, request.actor)
        return bots.update(bot.id, BotChange(**given), request.now_s)
    except BotNotFound:
        raise NotFound("bot", request.name) from None


def start_bot(commands: Commands, request: Request) -> Bot:
    """Raises NotFound."""
    bot = show_bot(commands, request)
    commands.bots(request.account, request.project, request.actor).start(bot.id, request.now_s)
    return show_bot(commands, request)


def stop_bot(commands: Commands, request: Request) -> Bot:
    """Raises NotFound."""
    bot = show_bot(commands, request)
    commands.bots(request.account, request.project, request.actor).stop(bot.id, request.now_s)
    return show_bot(commands, request)


def delete_bot(commands: Commands, request: Request) -> Removed:
    """Raises NotFound."""
    bot = show_bot(commands, request)
    commands.bots(request.account, request.project, request.actor).delete(bot.id, request.now_s)
    return Removed(1)


def _given(body: CreateBot | UpdateBot) -> dict[str, Any]:
    given = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    if "actions" in given:
        given["actions"] = tuple(BotAction(**msgspec.structs.asdict(action)) for action in given["actions"])
    return given


OPERATIONS = (
    Operation(
        id="bots.list",
        method="GET",
        path="/bots",
        summary="List bots",
        permission="bots.read",
        run=list_bots,
        answer=Bot,
        order=OLDEST_FIRST,
    ),
    Operation(
        id="bots.create",
        method="POST",
        path="/bots",
        summary="Make a bot over an endpoint of the project",
        permission="bots.create",
        run=create_bot,
        answer=Bot,
        body=CreateBot,
        status=201,
    ),
    Operation(
        id="bots.show",
        method="GET",
        path="/bots/{bot}",
        summary="Show a bot, with its prompt",
        permission="bots.read",
        run=show_bot,
        answer=Bot,
    ),
    Operation(
        id="bots.update",
        method="PATCH",
        path="/bots/{bot}",
        summary="Change a bot; calls under way go on as they began",
        permission="bots.update",
        run=update_bot,
        answer=Bot,
        body=UpdateBot,
    ),
    Operation(
        id="bots.start",
        method="POST",
        path="/bots/{bot}/start",
        summary="Take calls to a bot again",
        permission="bots.start",
        run=start_bot,
        answer=Bot,
    ),
    Operation(
        id="bots.stop",
        method="POST",
        path="/bots/{bot}/stop",
        summary="Refuse calls to a bot",
        permission="bots.stop",
        run=stop_bot,
        answer=Bot,
    ),
    Operation(
        id="bots.delete",
        method="DELETE",
        path="/bots/{bot}",
        summary="Delete a bot; its usage stays",
        permission="bots.delete",
        run=delete_bot,
        answer=Removed,
    ),
)
