"""Statuses and headers of errors, over the whole tree and both dialects (protocol §7.5, §9.3)."""

from __future__ import annotations

import pytest

from arkway.core import errors as e
from arkway.core.raw import ErrorReply
from arkway.dialects.openai import OpenAI
from arkway.dialects.v3 import ArkV3
from arkway.ports import Dialect
from arkway.wire import json
from arkway.wire.codes import sentence
from tests.wire.scripts import ERRORS

DIALECTS: dict[str, Dialect] = {"v3": ArkV3(), "openai": OpenAI()}


def reply(dialect: str, error: e.ArkwayError) -> ErrorReply:
    return DIALECTS[dialect].encode_error(error, "<id>")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_both_dialects_give_one_status_to_one_condition(error: e.ArkwayError) -> None:
    statuses = {name: reply(name, error).status for name in DIALECTS}
    # §9.3: a backend that is not there is 500 on v3, which knows no 503; OpenAI has one.
    assert (
        statuses == {"v3": 500, "openai": 503}
        if type(error) is e.BackendUnavailable
        else len({*statuses.values()}) == 1
    )


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_fault_lies_where_the_tree_says(dialect: str, error: e.ArkwayError) -> None:
    said = reply(dialect, error)
    if isinstance(error, e.PlatformError):
        assert 500 <= said.status <= 504
    else:
        assert 400 <= said.status < 500
    final = isinstance(error, e.CallerError) and not isinstance(error, e.RequestTimeout)
    assert (("x-should-retry", "false") in said.headers) or not final


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_value_is_a_string_but_for_openais_null(dialect: str, error: e.ArkwayError) -> None:
    told = json.loads(reply(dialect, error).body)
    assert list(told) == ["error"]
    param = told["error"].pop("param")
    assert param == (error.field or ("" if dialect == "v3" else None))
    assert all(isinstance(value, str) and value for value in told["error"].values())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_waits_are_whole_seconds_and_never_too_short(dialect: str) -> None:
    for wait_s, said in ((0.0, "1"), (0.2, "1"), (1.0, "1"), (1.1, "2"), (59.5, "60")):
        assert ("retry-after", said) in reply(dialect, e.RateLimited("slow down", wait_s)).headers


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_waiting_cannot_mend_is_no_429(dialect: str) -> None:
    refused = reply(dialect, e.QuotaExhausted("the quota is spent"))
    assert refused.status == 403
    assert ("x-should-retry", "false") in refused.headers
    assert not any(name == "retry-after" for name, _ in refused.headers)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whoever_is_not_known_is_401(dialect: str) -> None:
    for error in (e.NoCredentials(), e.UnknownCredentials(), e.MalformedCredentials("x"), e.SignatureMismatch("x")):
        assert reply(dialect, error).status == 401


def test_sentences_begin_and_end_as_sentences() -> None:
    assert sentence("the end") == "The end."
    assert sentence("Really?") == "Really?"
    assert sentence("done.") == "Done."
    assert sentence("`x` is wrong") == "`x` is wrong."
