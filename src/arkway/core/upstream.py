"""Someone else's model server, and the models that such servers answer for, as values."""

from __future__ import annotations

from typing import Literal

import msgspec

from arkway.core.model import ModelCard

CONNECTIONS = 4096
CONNECT_S = 3.0
FIRST_BYTE_S = 60.0
IDLE_S = 45.0
"""What an upstream gets of which nobody has said anything else."""


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """One server that speaks the OpenAI-like API.

    ``name`` is the operator's word for it. ``base_url`` ends where ``/chat/completions`` begins, such as
    ``http://127.0.0.1:8000/v1`` or ``https://ark.cn-beijing.volces.com/api/v3``. ``kind``: ``ark`` is the vendor's own
    service, which takes an access key pair too (``auth: aksk``, exchanged for temporary API keys in ``region``).
    ``connect_s``, ``first_byte_s`` and ``idle_s``: until connected, until the answer's head, between two pieces of the
    answer; seconds. ``ca_file`` "" = the system's authorities.
    """

    name: str
    base_url: str
    kind: Literal["openai", "ark"] = "openai"
    auth: Literal["none", "key", "aksk"] = "none"
    region: str = "cn-beijing"
    connections_max: int = CONNECTIONS
    connect_s: float = CONNECT_S
    first_byte_s: float = FIRST_BYTE_S
    idle_s: float = IDLE_S
    ca_file: str = ""


class Credential(msgspec.Struct, frozen=True):
    """What an upstream is shown: an API key, or an access key pair, in clear."""

    key: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""

    def __repr__(self) -> str:
        return "Credential(...)"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream's model that answers for a group.

    Of the ``normal`` members the lowest ``priority`` number serves, by ``weight``; the next number only when none of
    that one can. A ``canary`` gets ``share`` per cent of the calls, a ``shadow`` a copy of ``share`` per cent of them,
    whose answers nobody sees.
    """

    upstream: str
    model: str
    role: Literal["normal", "canary", "shadow"] = "normal"
    weight: int = 100
    priority: int = 0
    share: float = 0.0


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How a group chooses and when it gives up.

    ``stick_to``: calls of one session (the ``user`` field, else the key) or with one prompt prefix go to one member.
    ``attempts`` counts the first one. ``retry_share``: retries as a share of the calls, at most. A breaker opens when
    ``breaker_ratio`` of at least ``breaker_calls`` calls of the last ``breaker_window_s`` failed, or that many in
    a row, and lets one call try after ``breaker_open_s``. ``probe_s`` 0 = a member's health is what its calls say.
    """

    stick_to: Literal["nothing", "session", "prefix"] = "nothing"
    attempts: int = 2
    retry_share: float = 0.2
    breaker_ratio: float = 0.5
    breaker_calls: int = 10
    breaker_window_s: float = 10.0
    breaker_open_s: float = 5.0
    probe_s: float = 0.0


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A model that upstreams answer for. ``is_default``: the version meant when only the model's name is said."""

    card: ModelCard
    members: tuple[Member, ...]
    policy: Policy = Policy()
    is_default: bool = True
