"""A bot: a model's endpoint with a prompt of its own and actions that it looks things up with; and what a call used."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from arkway.core.model import Endpoint
from arkway.core.reference import Reference

ActionKind = Literal["knowledge", "web_search", "weather"]
Intent = Literal["always", "never", "auto", "llm", "tools"]
Citation = Literal["all", "cited", "none"]

ACTION_DEADLINE_S = 3.0


class Asker(msgspec.Struct, frozen=True):
    """Where the user is, as the caller says (``user_info``)."""

    city: str = ""
    district: str = ""


class BotAction(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a bot may do before it answers.

    ``collections``: names, of the bot's own project, that a ``knowledge`` action searches, and to which a
    ``web_search`` by the provider ``local`` is narrowed down. ``provider``: which of the
    configured ones a ``web_search`` or ``weather`` action asks; "" = the default one. ``limit``: the most results that
    the model gets to see.
    """

    kind: ActionKind
    collections: tuple[str, ...] = ()
    provider: str = ""
    limit: int = 5
    deadline_s: float = ACTION_DEADLINE_S


class Bot(msgspec.Struct, frozen=True, kw_only=True):
    """What callers name as ``bot-…``.

    ``endpoint_id`` answers; ``prompt`` comes before the system messages of a request. ``intent`` decides whether the
    actions are taken: ``auto`` by what they would find, without a model call; ``llm`` asks the model first; ``tools``
    lets the model call them. ``lexicon``: words that, for ``auto``, ask for the web beside the built-in ones.
    ``citation``: all sources go out as references, those that the answer cites, or none. ``context_share``: how much of
    the model's context what was found may fill, 0 to 1. Times are epoch seconds.
    """

    id: str
    name: str
    account: str
    project: str
    endpoint_id: str
    prompt: str = ""
    actions: tuple[BotAction, ...] = ()
    intent: Intent = "auto"
    citation: Citation = "all"
    lexicon: tuple[str, ...] = ()
    context_share: float = 0.4
    description: str = ""
    moderation: str = ""
    status: Literal["running", "stopped"] = "running"
    created_at: int = 0
    updated_at: int = 0

    def as_endpoint(self) -> Endpoint:
        """As the road of a call sees it: an endpoint whose model is called as the bot is."""
        return Endpoint(
            id=self.id,
            name=self.name,
            model_name=self.id,
            model_version="",
            status=self.status,
            account=self.account,
            project=self.project,
            created_at=self.created_at,
            description=self.description,
            moderation=self.moderation,
            updated_at=self.updated_at,
        )


class BotChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to become of a bot; None stays as it is."""

    name: str | None = None
    endpoint_id: str | None = None
    prompt: str | None = None
    actions: tuple[BotAction, ...] | None = None
    intent: Intent | None = None
    citation: Citation | None = None
    lexicon: tuple[str, ...] | None = None
    context_share: float | None = None
    description: str | None = None
    moderation: str | None = None


class Quest(msgspec.Struct, frozen=True, kw_only=True):
    """What an action is asked: a question that stands alone, for whom, under which settings of the bot."""

    account: str
    project: str
    query: str
    action: BotAction
    asker: Asker = Asker()
    lexicon: tuple[str, ...] = ()
    request_id: str = ""


class Snippet(msgspec.Struct, frozen=True):
    """One thing found: text for the model, untrusted, and where it is from."""

    text: str
    reference: Reference


class Findings(msgspec.Struct, frozen=True):
    """What an action found, best first. ``count``: searches made. ``output``: for `ToolDetail`, JSON-like."""

    snippets: tuple[Snippet, ...] = ()
    count: int = 1
    output: dict[str, Any] = {}


class ModelUse(msgspec.Struct, frozen=True):
    """One model call within a bot's call; ``name`` is the endpoint's id."""

    name: str
    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class ActionUse(msgspec.Struct, frozen=True):
    """Use of one source: its name (``search_engine``), the action's (``WebBrowsingPlus``), how many searches."""

    name: str
    action_name: str
    count: int
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class ToolDetail(msgspec.Struct, frozen=True):
    """One call of an action's tool; times in epoch milliseconds."""

    name: str
    input: dict[str, Any]
    output: dict[str, Any]
    created_at: int
    completed_at: int


class ActionDetail(msgspec.Struct, frozen=True):
    """The calls behind one `ActionUse`."""

    name: str
    count: int
    tool_details: tuple[ToolDetail, ...] = ()


class BotUsage(msgspec.Struct, frozen=True):
    """Everything that one call of a bot used."""

    models: tuple[ModelUse, ...] = ()
    actions: tuple[ActionUse, ...] = ()
    details: tuple[ActionDetail, ...] = ()
