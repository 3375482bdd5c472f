"""Bots: an endpoint with a prompt of its own, and actions that look things up before it answers."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, Self, get_args

import msgspec

from arkway.admin.audit import Acting
from arkway.core import ids
from arkway.core.audit import SERVER, Actor, Entry
from arkway.core.bot import ActionKind, Bot, BotAction, BotChange
from arkway.core.errors import CallerError, InvalidField

NAME_MAX_CHARACTERS = 128
DESCRIPTION_MAX_CHARACTERS = 1024
PROMPT_MAX_CHARACTERS = 16_384
MODERATION_MAX_CHARACTERS = 128
ACTIONS_MAX = 16
COLLECTIONS_MAX = 16
RESULTS_MAX = 50
DEADLINE_MIN_S, DEADLINE_MAX_S = 0.1, 60.0
WORDS_MAX = 1000
WORD_MAX_CHARACTERS = 64
COLLECTION_MAX_CHARACTERS = 128
PAGES_PROVIDER = "local"
"""The provider of web searches that searches collections of pages."""
PROVIDER_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}\Z"

_PROVIDER = re.compile(PROVIDER_PATTERN)

HasCollection = Callable[[str, str, str], bool]
"""Whether a project (account, project) has a collection of that name."""


class BotNotFound(CallerError):
    """No bot of that id for this caller."""

    def __init__(self, asked: str) -> None:
        super().__init__(f"the bot `{asked[:128]}` does not exist or you do not have access to it")


class BotTable(Protocol):
    """Where bots are kept."""

    def under(self, entry: Entry) -> Self: ...

    def insert(self, row: Mapping[str, Any]) -> bool: ...

    def rows(self, account: str, project: str) -> Sequence[Mapping[str, Any]]: ...

    def update(self, account: str, project: str, bot_id: str, values: Mapping[str, Any]) -> bool: ...


class Bots:
    """The commands on the bots of one project; the audit log names ``actor`` for each."""

    def __init__(
        self,
        table: BotTable,
        has_collection: HasCollection,
        account: str = "default",
        project: str = "default",
        actor: Actor = SERVER,
    ) -> None:
        self._table, self._has_collection = table, has_collection
        self._account, self._project = account, project
        self._acting = Acting(account, project, actor)

    def create(self, name: str, endpoint_id: str, now_s: int, **more: Any) -> Bot:
        """A new running bot; ``more`` is as in `BotChange`.

        Raises InvalidField, also for an endpoint or a collection that the project does not have.
        """
        bot = Bot(
            id=ids.bot_id(time.strftime("%Y%m%d%H%M%S", time.gmtime(now_s)), secrets.token_bytes(16)),
            name=name,
            account=self._account,
            project=self._project,
            endpoint_id=endpoint_id,
            created_at=now_s,
            updated_at=now_s,
            **more,
        )
        check(bot)
        self._check_collections(bot.actions, ())
        entry = self._acting.entry(
            "bots.create", bot.id, **_told(BotChange(name=name, endpoint_id=endpoint_id, **more))
        )
        if not self._table.under(entry).insert(msgspec.to_builtins(bot)):
            raise self._no_endpoint(endpoint_id)
        return bot

    def list(self) -> tuple[Bot, ...]:
        """Every bot of the project, oldest first; without those that only a newer program can read."""
        return tuple(_readable(self._table.rows(self._account, self._project)))

    def show(self, bot_id: str) -> Bot:
        """Raises BotNotFound."""
        bot = next((bot for bot in self.list() if bot.id == bot_id), None)
        if bot is None:
            raise BotNotFound(bot_id)
        return bot

    def update(self, bot_id: str, change: BotChange, now_s: int) -> Bot:
        """The bot as it is then; calls under way end as they began. Raises BotNotFound, InvalidField."""
        before = self.show(bot_id)
        if change.endpoint_id == before.endpoint_id:
            change = msgspec.structs.replace(change, endpoint_id=None)  # it may be gone since
        given = {name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not None}
        bot = msgspec.structs.replace(before, **given)
        check(bot)
        self._check_collections(bot.actions, before.actions)
        values = {**msgspec.to_builtins(change), "updated_at": now_s}
        table = self._table.under(self._acting.entry("bots.update", bot_id, **_told(change)))
        if not table.update(self._account, self._project, bot_id, values):
            self.show(bot_id)
            raise self._no_endpoint(bot.endpoint_id)
        return self.show(bot_id)

    def stop(self, bot_id: str, now_s: int) -> None:
        """Calls to it are refused from now on. Raises BotNotFound."""
        self._set("stop", bot_id, "stopped", now_s)

    def start(self, bot_id: str, now_s: int) -> None:
        """Raises BotNotFound."""
        self._set("start", bot_id, "running", now_s)

    def delete(self, bot_id: str, now_s: int) -> None:
        """It does not come back; its usage stays. Raises BotNotFound."""
        self._set("delete", bot_id, "deleted", now_s)

    def _set(self, action: str, bot_id: str, status: str, now_s: int) -> None:
        table = self._table.under(self._acting.entry(f"bots.{action}", bot_id))
        if not table.update(self._account, self._project, bot_id, {"status": status, "updated_at": now_s}):
            raise BotNotFound(bot_id)

    def _check_collections(self, actions: Iterable[BotAction], before: Iterable[BotAction]) -> None:
        """Those that it had may be gone since; a new one has to be there."""
        had = {name for action in before for name in action.collections}
        for name in dict.fromkeys(name for action in actions for name in action.collections):
            if name not in had and not self._has_collection(self._account, self._project, name):
                raise InvalidField(
                    f"the project `{self._project}` has no collection `{name[:64]}`; `arkway kb list` shows all of "
                    "them",
                    "actions",
                )

    def _no_endpoint(self, endpoint_id: str) -> InvalidField:
        if endpoint_id.startswith("bot-"):
            return InvalidField("a bot stands on an endpoint (`ep-…`), not on another bot", "endpoint_id")
        return InvalidField(
            f"the project `{self._project}` has no endpoint `{endpoint_id[:128]}`; `arkway endpoints list` shows all "
            "of them",
            "endpoint_id",
        )


def _readable(rows: Iterable[Mapping[str, Any]]) -> Iterator[Bot]:
    for row in rows:
        with suppress(msgspec.ValidationError):
            yield msgspec.convert(row, Bot)


def _told(change: BotChange) -> dict[str, Any]:
    """What the audit log says. Of a prompt how long it is: it may be another's trade secret."""
    told: dict[str, Any] = {name: value for name, value in msgspec.to_builtins(change).items() if name != "actions"}
    if "prompt" in told:
        told["prompt_characters"] = len(told.pop("prompt"))
    if change.actions is not None:
        told["actions"] = [written_action(action) for action in change.actions]
    return told


# What a bot can be


def check(bot: Bot) -> None:
    """Raises InvalidField for what no bot can be."""
    if not bot.name or len(bot.name) > NAME_MAX_CHARACTERS or not bot.name.isprintable():
        raise InvalidField(f"a bot's name has 1 to {NAME_MAX_CHARACTERS} printable characters", "name")
    for field, most in (("prompt", PROMPT_MAX_CHARACTERS), ("description", DESCRIPTION_MAX_CHARACTERS)):
        text = getattr(bot, field)
        if len(text) > most or "\0" in text:
            raise InvalidField(f"a {field} has at most {most:,} characters, and none of them is NUL", field)
    if len(bot.moderation) > MODERATION_MAX_CHARACTERS or not bot.moderation.isprintable():
        raise InvalidField(
            f"the name of a strategy has at most {MODERATION_MAX_CHARACTERS} printable characters", "moderation"
        )
    if not (math.isfinite(bot.context_share) and 0 <= bot.context_share <= 1):
        raise InvalidField("`context_share` is a number from 0 to 1", "context_share")
    if not bot.endpoint_id.isprintable() or len(bot.endpoint_id) > NAME_MAX_CHARACTERS:
        raise InvalidField("an endpoint's id is one such as `ep-20240701000000-abcde`", "endpoint_id")
    _check_lexicon(bot.lexicon)
    check_actions(bot.actions)


def _check_lexicon(words: Sequence[str]) -> None:
    wrong = (word for word in words if not word.strip() or len(word) > WORD_MAX_CHARACTERS or not word.isprintable())
    if len(words) > WORDS_MAX or next(wrong, None) is not None:
        raise InvalidField(
            f"a lexicon has at most {WORDS_MAX} words of 1 to {WORD_MAX_CHARACTERS} printable characters", "lexicon"
        )


def check_actions(actions: Sequence[BotAction]) -> None:
    """Raises InvalidField."""
    if len(actions) > ACTIONS_MAX:
        raise InvalidField(f"a bot has at most {ACTIONS_MAX} actions", "actions")
    if len({(action.kind, action.provider, action.collections) for action in actions}) < len(actions):
        raise InvalidField("each action is there once", "actions")
    for action in actions:
        _check_action(action)


def _check_action(action: BotAction) -> None:
    if not 1 <= action.limit <= RESULTS_MAX:
        raise InvalidField(f"`limit`, the results of an action, is from 1 to {RESULTS_MAX}", "actions")
    if not (math.isfinite(action.deadline_s) and DEADLINE_MIN_S <= action.deadline_s <= DEADLINE_MAX_S):
        raise InvalidField(f"`deadline_s` is from {DEADLINE_MIN_S:g} to {DEADLINE_MAX_S:g} seconds", "actions")
    if action.provider and not _PROVIDER.match(action.provider):
        raise InvalidField("a provider's name has 1 to 63 of a-z, 0-9, hyphens and underscores", "actions")
    if action.kind == "knowledge":
        _check_knowledge(action)
    elif action.collections:
        _check_pages(action)


def _check_knowledge(action: BotAction) -> None:
    names = action.collections
    if action.provider or not 1 <= len(names) <= COLLECTIONS_MAX or len(set(names)) < len(names):
        raise InvalidField(
            f"knowledge names 1 to {COLLECTIONS_MAX} collections, each once: `knowledge:manual,faq`", "actions"
        )
    _check_names(names)


def _check_pages(action: BotAction) -> None:
    """A web search within collections of kept pages: it is the offline provider that can do that."""
    names = action.collections
    if action.kind != "web_search" or action.provider != PAGES_PROVIDER:
        raise InvalidField(
            f"only knowledge, and web_search with the provider `{PAGES_PROVIDER}`, have collections; write "
            f"`{action.kind}` or `{action.kind}:PROVIDER`",
            "actions",
        )
    if len(names) > COLLECTIONS_MAX or len(set(names)) < len(names):
        raise InvalidField(
            f"a web search names at most {COLLECTIONS_MAX} collections, each once: "
            f"`web_search:{PAGES_PROVIDER},handbook,news`",
            "actions",
        )
    _check_names(names)


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not name or len(name) > COLLECTION_MAX_CHARACTERS or not name.isprintable() or set(name) & set(",=:"):
            raise InvalidField(
                f"a collection's name has 1 to {COLLECTION_MAX_CHARACTERS} printable characters, none of them , = :",
                "actions",
            )


# Actions as people write them


def action_of(text: str) -> BotAction:
    """``knowledge:manual,faq``, ``web_search``, ``weather:qweather``; ``,limit=8`` and ``,deadline_s=2`` may follow.

    ``web_search:local,handbook`` searches the pages of that collection alone.

    Raises InvalidField.
    """
    first, *parts = text.split(",")
    kind, _, named = first.partition(":")
    options = dict(part.split("=", 1) for part in parts if "=" in part)
    names = tuple(part for part in (named, *parts) if part and "=" not in part)
    if kind not in get_args(ActionKind):
        raise InvalidField(f"`{kind[:64]}` is no action; there are {', '.join(get_args(ActionKind))}", "actions")
    if unknown := next((name for name in options if name not in ("limit", "deadline_s")), None):
        raise InvalidField(f"an action has limit and deadline_s, not `{unknown[:64]}`", "actions")
    values: dict[str, Any] = {"kind": kind, **options}
    if kind == "knowledge":
        values["collections"] = names
    elif kind == "web_search":
        values |= {"provider": "".join(names[:1]), "collections": names[1:]}
    elif len(names) > 1:
        raise InvalidField(f"{kind} asks one provider; write another action for another one", "actions")
    else:
        values["provider"] = "".join(names)
    return _action(text, values)


def _action(text: str, values: Mapping[str, Any]) -> BotAction:
    try:
        action = msgspec.convert(values, BotAction, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidField(f"the action `{text[:128]}`: {error}", "actions") from None
    _check_action(action)
    return action


def written_action(action: BotAction) -> str:
    """As `action_of` reads it, without what has its default."""
    usual = BotAction(kind=action.kind)
    named = ",".join(name for name in (action.provider, *action.collections) if name)
    parts = [f"{action.kind}:{named}" if named else action.kind]
    if action.limit != usual.limit:
        parts.append(f"limit={action.limit}")
    if action.deadline_s != usual.deadline_s:
        parts.append(f"deadline_s={action.deadline_s:g}")
    return ",".join(parts)
