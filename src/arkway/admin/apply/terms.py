"""What the keys of a platform file take, in types and in words, and what tells its things from each other."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from arkway.admin.bots import PROMPT_MAX_CHARACTERS
from arkway.admin.limits import AMOUNT_MAX, AMOUNT_MIN, WHATS
from arkway.admin.prices import PRICE_MAX
from arkway.core.bot import Citation, Intent
from arkway.core.caller import Role
from arkway.core.errors import InvalidField
from arkway.core.model import Capability
from arkway.core.roles import ROLES

Kind = Literal[
    "account", "project", "upstream", "group", "endpoint", "bot", "key", "access key", "limit", "alias", "price"
]
Facts = Mapping[str, Any]

Id = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z",
        description="1 to 64 letters, digits, dots, hyphens and underscores, a letter or digit first",
    ),
]
Name = Annotated[str, Meta(min_length=1, max_length=128, description="1 to 128 printable characters")]
MaybeName = Annotated[str, Meta(max_length=128, description="at most 128 printable characters")]
ModelName = Annotated[str, Meta(min_length=1, max_length=256, description="a model's name")]
Version = Annotated[str, Meta(max_length=256, description='a model\'s version, or "" for its default one')]
Status = Annotated[Literal["running", "stopped"], Meta(description="`running` or `stopped`")]
AccountStatus = Annotated[Literal["active", "suspended"], Meta(description="`active` or `suspended`")]
Text = Annotated[str, Meta(max_length=1024, description="a text of at most 1024 characters")]
Tags = Annotated[dict[str, str], Meta(description='texts by their names, such as { team = "search" }')]
Rate = Annotated[int, Meta(ge=0, le=10**15, description="a whole number, 0 for no limit")]
RoleName = Annotated[Role, Meta(description=" or ".join(f"`{role}`" for role in ROLES))]
Names = Annotated[tuple[str, ...], Meta(description='names of endpoints, such as ["chat"]')]
BotNames = Annotated[tuple[str, ...], Meta(description='names of bots, such as ["helper"]')]
EndpointName = Annotated[str, Meta(min_length=1, max_length=128, description="an endpoint's name")]
Prompt = Annotated[
    str, Meta(max_length=PROMPT_MAX_CHARACTERS, description=f"a text of at most {PROMPT_MAX_CHARACTERS} characters")
]
Actions = Annotated[tuple[str, ...], Meta(description='actions, such as ["knowledge:manual,limit=8", "web_search"]')]
IntentName = Annotated[Intent, Meta(description="`always`, `never`, `auto`, `llm` or `tools`")]
CitationName = Annotated[Citation, Meta(description="`all`, `cited` or `none`")]
Words = Annotated[tuple[str, ...], Meta(description='words, such as ["share price"]')]
Moment = Annotated[datetime, Meta(tz=True, description="a time with its offset, such as 2026-12-31T00:00:00Z")]
LimitScope = Annotated[
    Literal["key", "access_key", "endpoint", "bot", "project", "account"],
    Meta(description="`key`, `access_key`, `endpoint`, `bot`, `project` or `account`"),
]
LimitName = Annotated[str, Meta(description=" or ".join(f"`{name}`" for name in WHATS))]
Amount = Annotated[float, Meta(ge=AMOUNT_MIN, le=AMOUNT_MAX, description="a number of at least 0.001")]
Money = Annotated[
    float, Meta(ge=0, le=PRICE_MAX, description=f"the price of a million tokens, from 0 to {PRICE_MAX:,.0f}")
]
CurrencyName = Annotated[Literal["CNY", "USD"], Meta(description="`CNY` or `USD`")]
Shown = Annotated[str, Meta(max_length=1024, description="a text of at most 1024 printable characters")]
UpstreamKind = Annotated[Literal["openai", "ark"], Meta(description="`openai` or `ark`")]
Auth = Annotated[Literal["none", "key", "aksk"], Meta(description="`none`, `key` or `aksk`")]
Variable = Annotated[
    str, Meta(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?\Z", description="the name of a variable of the environment")
]
Seconds = Annotated[float, Meta(ge=0, description="a number of seconds")]
Count = Annotated[int, Meta(ge=0, description="a whole number")]
Portion = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Members = Annotated[tuple[str, ...], Meta(description='members, such as ["vllm/Qwen/Qwen3-8B,weight=50"]')]
Capabilities = Annotated[tuple[Capability, ...], Meta(description='capabilities, such as ["chat", "tools"]')]
Sticking = Annotated[Literal["nothing", "session", "prefix"], Meta(description="`nothing`, `session` or `prefix`")]


class Ref(msgspec.Struct, frozen=True, order=True):
    """What tells one thing from all others; ``account`` and ``project`` are empty where it is in none."""

    kind: Kind
    account: str
    project: str
    name: str

    def __str__(self) -> str:
        return " ".join((self.kind, "/".join(filter(None, (self.account, self.project, self.name)))))


def whole(number: float) -> float | int:
    """The number without a fraction that is none."""
    return int(number) if number == int(number) else number


def check_printable(text: str, field: str) -> None:
    """Raises InvalidField for a text with characters that nobody can see."""
    if not text.isprintable():
        raise InvalidField("all of its characters have to be printable", field)
