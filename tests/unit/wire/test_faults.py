"""What upstream servers say went wrong, and what callers get to see of it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkway.core import errors as e
from arkway.wire import json
from arkway.wire.openai_shape.faults import RETRY_AFTER_MAX_S, WORDS_MAX, error_of, fault_in, safe_words

NONE: Mapping[str, str] = {}


def openai(message: str, code: object = None, kind: str = "invalid_request_error", param: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, e.BadRequest), (401, e.BackendUnavailable), (402, e.BackendUnavailable), (403, e.BackendUnavailable),
        (404, e.BackendUnavailable), (405, e.BackendUnavailable), (408, e.BackendTimeout), (413, e.BadRequest),
        (418, e.BackendUnavailable), (422, e.BadRequest), (424, e.BackendUnavailable), (429, e.Overloaded),
        (500, e.BackendFailed), (501, e.BackendFailed), (502, e.BackendUnavailable), (503, e.BackendUnavailable),
        (504, e.BackendTimeout), (524, e.BackendTimeout), (529, e.BackendUnavailable), (301, e.BackendUnavailable),
        (307, e.BackendUnavailable), (204, e.BackendFailed), (999, e.BackendFailed),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "body", [b"", b"<html>nginx</html>", b"{", b"[]", b'{"error":null}', b'{"error":{"message":7}}']
)
def test_the_status_alone_says_what_it_is(status: int, kind: type[e.ArkwayError], body: bytes) -> None:
    error = error_of(status, NONE, body)
    assert type(error) is kind
    assert error.message


TOO_LONG = [
    (
        openai(
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the "
            "messages, 1000 in the completion). Please reduce the length of the messages or completion."
        ),
        (4000, 4096),
    ),
    (
        openai(
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
            "context_length_exceeded",
        ),
        (9001, 8192),
    ),
    (
        openai(
            "'max_tokens' or 'max_completion_tokens' is too large: 4000. This model's maximum context length is 2048 "
            "tokens and your request has 20 input tokens (4000 > 2048 - 20).",
            400,
            "BadRequestError",
        ),
        (20, 2048),
    ),
    (
        json.dumps(
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size, try increasing it",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 5011,
                    "n_ctx": 4096,
                }
            }
        ),
        (5011, 4096),
    ),
    (
        openai("The input (3000 tokens) is longer than the model's context length (2048 tokens).", 400),
        (3000, 2048),
    ),
]


@pytest.mark.parametrize(("body", "figures"), TOO_LONG)
def test_a_prompt_that_is_too_long_is_told_with_its_figures(body: bytes, figures: tuple[int, int]) -> None:
    error = error_of(400, NONE, body)
    assert isinstance(error, e.ContextTooLong)
    assert (error.prompt_tokens, error.context_tokens) == figures


def test_without_figures_it_is_told_all_the_same() -> None:
    error = error_of(400, NONE, openai("Your input exceeds the context window of this model.", None))
    assert type(error) is e.BadRequest
    assert (error.field, "context" in error.message) == ("messages", True)


@pytest.mark.parametrize(
    "body",
    [
        openai("Invalid value for temperature: 3", None, "BadRequestError", "temperature"),
        b'{"error":{"code":"InvalidParameter","message":"Invalid value for temperature: 3","param":"temperature"}}',
        b'{"detail":[{"loc":["body","temperature"],"msg":"Invalid value for temperature: 3","type":"value_error"}]}',
    ],
)
def test_a_parameter_that_is_wrong_is_named(body: bytes) -> None:
    error = error_of(400, NONE, body)
    assert isinstance(error, e.InvalidField)
    assert (error.field, error.message) == ("temperature", "Invalid value for temperature: 3")


def test_a_parameter_is_named_without_the_place_that_vllm_puts_before_it() -> None:
    body = b'{"error":{"message":"min_p must be in [0, 1]","type":"BadRequestError","param":"body.min_p","code":400}}'
    error = error_of(400, {}, body)
    assert isinstance(error, e.InvalidField)
    assert error.field == "min_p"


def test_a_server_without_tools_is_told_without_its_flags() -> None:
    said = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    body = json.dumps({"error": {"message": said}})
    error = error_of(400, {}, body)
    assert isinstance(error, e.InvalidField)
    assert (error.field, "--" in error.message) == ("tools", False)


AZURE = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
    }
}
OPENROUTER = {
    "error": {
        "code": 403,
        "message": "Your chosen model requires moderation and your input was flagged",
        "metadata": {"reasons": ["violence"], "flagged_input": "…", "provider_name": "p"},
    }
}
SENSITIVE = "系统检测到输入或生成内容可能包含不安全或敏感内容"
ARK_INPUT = (
    *("SensitiveContentDetected", "SensitiveContentDetected.SevereViolation", "SensitiveContentDetected.Violence"),
    *("InputTextSensitiveContentDetected", "InputImageSensitiveContentDetected", "InputTextRiskDetection"),
    *("ContentSecurityDetectionError", "InputVideoSensitiveContentDetected", "InputTextSensitiveContentDetected.Sub"),
)
ARK_OUTPUT = ("OutputTextSensitiveContentDetected", "OutputImageSensitiveContentDetected", "OutputTextRiskDetection")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((400, openai("…", code, "BadRequest")) for code in ARK_INPUT),
        (400, openai("Your request was rejected by our safety system.", "content_policy_violation")),
        (400, openai("Invalid prompt: it may violate our usage policy.", "invalid_prompt")),
        (400, json.dumps(AZURE)),
        (403, json.dumps(OPENROUTER)),
        (400, openai("Input data may contain inappropriate content.", "data_inspection_failed", "x")),
        (400, openai("Content Exists Risk", "invalid_request_error")),
        (400, openai("The request was rejected because it was considered high risk", None, "content_filter")),
        (400, b'{"error":{"code":"ReqTextExistRisk","code_n":1709813,"message":"The input text may contain it"}}'),
        (400, json.dumps({"contentFilter": [{"level": 1}], "error": {"code": "1301", "message": SENSITIVE}})),
    ],
)
def test_a_refusal_for_what_was_asked_is_our_own_refusal_of_it(status: int, body: bytes) -> None:
    for error in (error_of(status, NONE, body), fault_in(body)):
        assert type(error) is e.InputBlocked
        assert error.field == "messages"
        assert error.message == e.InputBlocked().message


@pytest.mark.parametrize(
    "body",
    [
        *(openai("…", code, "BadRequest") for code in (*ARK_OUTPUT, "RespTextExistRisk")),
        openai("Output data may contain inappropriate content.", "data_inspection_failed"),
    ],
)
def test_a_refusal_for_what_was_answered_is_our_own_refusal_of_it(body: bytes) -> None:
    for error in (error_of(400, NONE, body), fault_in(body)):
        assert type(error) is e.OutputBlocked


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, openai("unknown parameter `moderation`", "InvalidParameter"), e.BadRequest),
        (400, openai("`content_filter` is no value of finish_reason", None), e.BadRequest),
        (403, openai("you may not use the moderation endpoint", "AccessDenied"), e.BackendUnavailable),
        (500, openai("the moderation service is down", "InternalServiceError"), e.BackendFailed),
        (429, openai("slow down", "ModerationRateLimitExceeded"), e.Refused),
        (400, openai("the model content_filter-7b does not exist", "model_not_found"), e.BackendUnavailable),
    ],
)
def test_words_of_moderation_are_no_refusal(status: int, body: bytes, kind: type[e.ArkwayError]) -> None:
    error = error_of(status, NONE, body)
    assert isinstance(error, kind)
    assert not isinstance(error, e.InputBlocked | e.OutputBlocked)


@pytest.mark.parametrize("code", ["model_not_found", "InvalidEndpoint.ClosedEndpoint", "AccountOverdueError"])
def test_what_the_operator_has_to_mend_is_no_fault_of_the_caller(code: str) -> None:
    assert type(error_of(400, NONE, openai("no", code))) is e.BackendUnavailable


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (openai("Rate limit reached for requests", "rate_limit_exceeded", "requests"), e.RateLimited),
        (openai("RPM", "RateLimitExceeded.EndpointRPMExceeded", "TooManyRequests"), e.RateLimited),
        (openai("busy", "ServerOverloaded", "TooManyRequests"), e.Overloaded),
        (openai("You exceeded your current quota", "insufficient_quota"), e.BackendUnavailable),
        (b'{"error":"Model is overloaded","error_type":"overloaded"}', e.Overloaded),
    ],
)
def test_too_many_calls(body: bytes, kind: type[e.ArkwayError]) -> None:
    assert type(error_of(429, NONE, body)) is kind


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, 1.0), ({"retry-after": "7"}, 7.0), ({"retry-after": " 2.5 "}, 2.5), ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "86400"}, RETRY_AFTER_MAX_S), ({"retry-after": "-3"}, 1.0), ({"retry-after": "soon"}, 1.0),
        ({"retry-after": "9" * 400}, 1.0), ({"retry-after": "١٢"}, 1.0),
        ({"retry-after": "Fri, 13 Dec 2024 15:34:16 GMT", "date": "Fri, 13 Dec 2024 15:34:06 GMT"}, 10.0),
        ({"retry-after": "Fri, 13 Dec 2024 15:34:06 GMT", "date": "Fri, 13 Dec 2024 15:34:16 GMT"}, 0.0),
        ({"retry-after": "Fri, 13 Dec 2024 15:34:16 GMT"}, 1.0),
    ],
)  # fmt: skip
def test_how_long_to_wait(headers: Mapping[str, str], wait_s: float) -> None:
    error = error_of(429, headers, b"")
    assert isinstance(error, e.Refused)
    assert error.retry_after_s == wait_s


@pytest.mark.parametrize(
    "words",
    [
        "see http://10.0.0.7:8000/docs", "cannot reach gpu-7.internal", "connect to 10.1.2.3 refused", "at [::1]:8000",
        "localhost refused", "port gpu7:8000", "no file /models/llama", "C:\\models\\llama", "ask ops@example",
        "Incorrect API key provided", "bad key sk-abc", "token 8f14e45fceea167a5a36dedd4bea2543 is unknown",
        "Authorization is missing", "Traceback (most recent call last)", "in vllm.engine.async_llm", "the secret name",
    ],
)  # fmt: skip
def test_words_that_tell_of_the_inside_are_not_shown(words: str) -> None:
    assert safe_words(words) == ""
    error = error_of(400, NONE, openai(words))
    assert words not in error.message


@pytest.mark.parametrize(
    "words",
    [
        "temperature must be at most 2.0, got 3", "max_tokens must be at least 1", "top_p must be in (0, 1], got 1.5",
        "Conversation roles must alternate user/assistant/user/assistant/...", "`tool_choice` needs tools",
    ],
)  # fmt: skip
def test_words_of_use_are_shown(words: str) -> None:
    assert safe_words(words) == words


def test_what_is_to_stay_hidden_is_not_shown() -> None:
    body = openai("the model Hidden-Name takes no images", param="messages")
    assert "Hidden-Name" in error_of(400, NONE, body).message
    assert "hidden-name" not in error_of(400, NONE, body, ("hidden-name",)).message.lower()


def test_words_are_one_line_of_bounded_length() -> None:
    assert safe_words("a\r\n\x1b[31mb\0c\u2028d") == "a [31mb c d"
    assert len(safe_words("word " * 1000)) == WORDS_MAX + 1


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b'{"error":{"code":429,"message":"slow down"}}', e.Overloaded),
        (b'{"error":{"code":"503","message":"x"}}', e.BackendUnavailable),
        (b'{"error":{"message":"x","type":"overloaded_error"}}', e.Overloaded),
        (b'{"error":{"message":"x","type":"invalid_request_error"}}', e.BadRequest),
        (b'{"error":{"message":"x","type":"authentication_error"}}', e.BackendUnavailable),
        (b'{"error":{"code":"APITimeoutError","message":"x"}}', e.BackendTimeout),
        (b'{"error":"x","error_type":"generation"}', e.BackendFailed),
        (b"garbage", e.BackendFailed),
    ],
)
def test_errors_in_the_place_of_an_answer(payload: bytes, kind: type[e.ArkwayError]) -> None:
    assert type(fault_in(payload)) is kind


@given(st.integers(200, 999), st.dictionaries(st.sampled_from(["retry-after", "date"]), st.text()), st.binary())
def test_any_answer_is_some_error(status: int, headers: dict[str, str], body: bytes) -> None:
    assert isinstance(error_of(status, headers, body), e.ArkwayError)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["error", "message", "code", "type", "param", "detail", "loc", "msg", "n_ctx", "n_prompt_tokens", "error_type"]
    ), inner, max_size=4),
)  # fmt: skip


@given(st.sampled_from([400, 422, 429, 500]), JSON_VALUES)
def test_any_json_is_some_error(status: int, value: object) -> None:
    error = error_of(status, NONE, json.dumps(value))
    assert isinstance(error, e.ArkwayError)
    assert error.message.isprintable()
