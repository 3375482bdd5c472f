"""Every limit of every field table over HTTP, just inside and just outside, in both modes (J6, P1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from arkway.core.errors import InvalidField
from arkway.testing import CHAT_CARD, RunningServer, running_server
from arkway.wire.fields import INTEGER_MAX, Field
from tests.tools.client import Connection, Reply
from tests.tools.wires import LEGACY, MODAL, OPERATIONS, Place, Wire, wire_path, with_value

# Of a number's limit, the step that is certainly outside.
STEP = {"integer": 1, "number": 0.001}
FUNCTION = {"name": "f", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
ENTRIES: dict[str, Any] = {
    "messages": {"role": "user", "content": "a"},
    "functions": FUNCTION,
    "tools": TOOL,
    "tool_calls": {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
}
# What a field cannot stand without, and the model's own limit where it is nearer.
COMPANIONS: dict[str, dict[str, Any]] = {"top_logprobs": {"logprobs": True}}
OF_THE_MODEL = {
    "max_tokens": CHAT_CARD.max_output_tokens,
    "max_completion_tokens": CHAT_CARD.max_output_tokens,
    "max_new_tokens": CHAT_CARD.max_output_tokens,
    "n": 4,
}


class Limited(NamedTuple):
    """One field with a limit, in one mode."""

    wire: Wire
    operation: str
    place: Place
    field: Field
    strict: bool

    def __str__(self) -> str:
        return f"{self.wire}-{self.operation}-{wire_path(self.place)}-{'strict' if self.strict else 'compat'}"


def limited() -> Iterator[Limited]:
    for wire, operation in OPERATIONS:
        for place, table in wire.tables[operation].items():
            for name, field in table.items():
                yield Limited(wire, operation, (*place, name), field, False)
                if wire in MODAL:
                    yield Limited(wire, operation, (*place, name), field, True)


ALL = [case for case in limited() if case.field.effect == "honoured"]
NUMBERS = [case for case in ALL if case.field.kind in ("integer", "number") and case.field.name != "dimensions"]
TEXTS = [case for case in ALL if case.field.max_bytes is not None and case.field.kind == "string"]
LISTS = [case for case in ALL if case.field.max_items is not None]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[bool, RunningServer]]:
    strict = {"surface": {"legacy_mode": "strict", "message_encryption": True}}
    compat = {"surface": {"message_encryption": True}}
    with running_server(settings=compat) as real, running_server(settings=strict) as by_the_book:
        yield {False: real, True: by_the_book}


@pytest.fixture(scope="module")
def clients(servers: dict[bool, RunningServer]) -> Iterator[dict[bool, Connection]]:
    with Connection(servers[False].url) as compat, Connection(servers[True].url) as strict:
        yield {False: compat, True: strict}


def sent(clients: dict[bool, Connection], case: Limited, value: Any) -> Reply:
    path, body, headers = case.wire.call(case.operation)
    for name, companion in COMPANIONS.get(case.field.name, {}).items():
        body = with_value(body, (*case.place[:-1], name), companion)
    return clients[case.strict].post(path, with_value(body, case.place, value), headers)


def refused(case: Limited, reply: Reply, value: Any) -> str:
    """Asserts a refusal that blames the field; gives back its message."""
    error, told = case.wire.error(reply), case.wire.told[InvalidField]
    assert (reply.status, error["code"], error.get("code_n", 0)) == told, value
    assert case.wire.blames(error, {wire_path(case.place)}), error
    message: str = error["message"]
    return message


def bounds(case: Limited) -> tuple[float | None, float | None, bool]:
    """The lowest and the highest value that is taken, and whether the lowest itself is not."""
    field = case.field
    if case.strict and field.strict is not None:
        return field.strict.low, field.strict.high, field.strict.above_low
    high = field.high
    if field.name in OF_THE_MODEL and not (case.wire in MODAL and not case.strict):
        high = min(high or INTEGER_MAX, OF_THE_MODEL[field.name])
    return field.low, high, False


@pytest.mark.parametrize("case", NUMBERS, ids=str)
def test_a_number_is_taken_up_to_its_limits_and_no_further(clients: dict[bool, Connection], case: Limited) -> None:
    low, high, above = bounds(case)
    assert low is not None
    step, kind = STEP[case.field.kind], int if case.field.kind == "integer" else float
    inside: list[float] = [kind(low) + step, *([] if above else [kind(low)])]
    outside: list[float] = [kind(low) - step, *([kind(low)] if above else [])]
    if high is not None:
        inside += [kind(high), kind(high) - step]
        if case.strict or not case.field.clamps:
            outside.append(kind(high) + step)
    for value in inside:
        if not (low <= value <= (high if high is not None else value)):
            continue  # a range of one value
        assert sent(clients, case, value).status == 200, value
    for value in outside:
        unset = value == 0 and case.field.zero_is_unset and not case.strict
        if unset:
            assert sent(clients, case, value).status == 200
        elif -(2**63) <= value < 2**63:
            refused(case, sent(clients, case, value), value)


@pytest.mark.parametrize("case", [case for case in NUMBERS if case.wire in MODAL and not case.strict], ids=str)
def test_in_compat_mode_too_much_is_lowered_or_refused(clients: dict[bool, Connection], case: Limited) -> None:
    own = OF_THE_MODEL.get(case.field.name)
    too_much = own + 1 if own else (case.field.high or 0) + 1
    reply = sent(clients, case, int(too_much))
    if own or case.field.clamps:
        assert (reply.status, reply.headers["x-arkway-clamped"]) == (200, wire_path(case.place))
    else:
        refused(case, reply, too_much)


@pytest.mark.parametrize("case", NUMBERS, ids=str)
def test_only_integers_that_may_be_quoted_are_taken_from_strings(
    clients: dict[bool, Connection], case: Limited
) -> None:
    value = str(int(max(bounds(case)[0] or 0, 1)))
    reply = sent(clients, case, value)
    if case.field.quoted:
        assert reply.status == 200
    else:
        assert "got a string" in refused(case, reply, value)


@pytest.mark.parametrize("case", TEXTS, ids=str)
def test_a_text_is_taken_up_to_its_bytes(clients: dict[bool, Connection], case: Limited) -> None:
    limit = case.field.max_bytes or 0
    said = f"at most {limit} bytes are taken"
    for text in ("a" * (limit - 1), "a" * limit, "字" * (limit // 3)):
        reply = sent(clients, case, text)
        assert reply.status == 200 or said not in case.wire.error(reply)["message"]
        if case.place[0] != "model" and case.place != ("crypto_token",):
            assert reply.status == 200
    for text in ("a" * (limit + 1), "字" * (limit // 3 + 1)):
        assert said in refused(case, sent(clients, case, text), text[:9])


def filled(case: Limited, count: int) -> Any:
    """A value of so many entries."""
    if case.field.kind == "object":
        return {str(number): 1 for number in range(count)}
    entry = ENTRIES.get(case.field.name)
    return [entry if entry is not None else f"e{number}" for number in range(count)]


@pytest.mark.parametrize("case", LISTS, ids=str)
def test_a_list_is_taken_up_to_its_entries(clients: dict[bool, Connection], case: Limited) -> None:
    limit = case.field.max_items or 0
    said = f"at most {limit} entries are taken, got {limit + 1}"
    ordered = case.strict and case.field.name == "messages"  # so many by one speaker are out of order
    for count in (limit - 1, limit):
        reply = sent(clients, case, filled(case, count))
        if ordered and reply.status == 400:
            assert "in strict mode" in refused(case, reply, count)
        else:
            assert reply.status == 200
    assert said in refused(case, sent(clients, case, filled(case, limit + 1)), limit + 1)


@pytest.mark.parametrize("wire", LEGACY, ids=repr)
@pytest.mark.parametrize("count, status", [(1, 400), (2, 200)])
def test_labels_are_two_at_least(clients: dict[bool, Connection], wire: Wire, count: int, status: int) -> None:
    for client in clients.values():
        labels = [f"e{number}" for number in range(count)]
        assert client.post(*wire.call("classification", labels=labels)).status == status


Speakers = tuple[str, ...]


@pytest.mark.parametrize(
    "speakers, v1, v2",
    [
        (("user",), True, True),
        (("system", "user"), True, True),
        (("user", "assistant", "user"), True, True),
        (("user", "system", "assistant", "user"), True, True),
        (("user", "user", "user"), False, True),
        (("user", "assistant"), False, True),
        (("assistant",), False, True),
        (("user", "assistant", "function", "assistant", "user"), True, True),
        (("user", "function", "user"), False, False),
        (("tool",), False, False),
    ],
    ids=str,
)
def test_only_strict_mode_minds_who_speaks_when(
    clients: dict[bool, Connection], speakers: Speakers, v1: bool, v2: bool
) -> None:
    messages = [{"role": role, "content": "a"} for role in speakers]
    for wire, fits in zip(LEGACY, (v1, v2), strict=True):
        assert clients[False].post(*wire.chat(values={"messages": messages})).status == 200
        reply = clients[True].post(*wire.chat(values={"messages": messages}))
        assert (reply.status == 200) == fits
        if not fits:
            assert "strict mode" in wire.error(reply)["message"]
            assert wire.blames(wire.error(reply), {"messages"})
