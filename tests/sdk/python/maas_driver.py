"""Runs in a client's own environment and uses its MaaS SDK as a caller would, on demand.

``python maas_driver.py`` reads one JSON object per line, ``{"operation", "surface", "host", "region", "request", …}``
(the fields of `Ask`), makes the call with an SDK object of its own, and writes what the SDK surfaced as one JSON line:
``{"result": …}``, or ``{"error": {class, code, code_n, message, req_id}, "frames": [those that came before it]}``, each
with ``"exchanges"``: what went over HTTP, ``[{target, sent, body, status, answered}]`` with lower-case header names.

Surfaces: ``v1`` (`volcengine.maas`), ``v2`` (`volcengine.maas.v2`), ``chat`` and ``llm`` (the two of LangChain).
"""

# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

X_DATE = "%Y%m%dT%H%M%SZ"

Ask = dict[str, Any]
"""``operation, surface, host, region, request``; ``access_key_id, secret_access_key, session_token``, or on v2 also
``api_key``; ``endpoint_id`` (v2); ``leave_after`` (frames); ``clock_ahead_s``; ``options`` (LangChain's own)."""


class Broken(Exception):
    """A stream raised after some frames."""

    def __init__(self, frames: list[Any], cause: Exception) -> None:
        super().__init__(str(cause))
        self.frames = frames
        self.cause = cause


# The SDK's objects


def connect(ask: Ask) -> Any:
    """The SDK's service object for one surface, as its documentation says to make it."""
    if ask["surface"] == "v1":
        from volcengine.maas import MaasService
    else:
        from volcengine.maas.v2 import MaasService

    service = MaasService(ask["host"], ask["region"])
    service.set_scheme(ask.get("scheme", "http"))
    if "access_key_id" in ask:
        service.set_ak(ask["access_key_id"])
        service.set_sk(ask["secret_access_key"])
    if ask.get("session_token"):
        service.set_session_token(ask["session_token"])
    if ask.get("api_key"):
        service.set_apikey(ask["api_key"])
    return service


def connect_langchain(ask: Ask) -> Any:
    """LangChain's model object; its region stays what LangChain has as the default, its host and scheme do not."""
    if ask["surface"] == "chat":
        from langchain_community.chat_models.volcengine_maas import VolcEngineMaasChat as Model
    else:
        from langchain_community.llms.volcengine_maas import VolcEngineMaasLLM as Model

    keys = {"volc_engine_maas_ak": ask["access_key_id"], "volc_engine_maas_sk": ask["secret_access_key"]}
    model = Model(endpoint=ask["host"], **keys, **ask.get("options", {}))
    model.client.set_scheme(ask.get("scheme", "http"))
    return model


def addressed(method: Callable[..., Any], ask: Ask) -> Callable[..., Any]:
    """The method with the endpoint put in, where this surface takes it as an argument of its own."""
    return functools.partial(method, ask["endpoint_id"]) if ask["surface"] == "v2" else method


# MaaS v1 and v2


def chat(service: Any, ask: Ask) -> Any:
    return addressed(service.chat, ask)(ask["request"])


def stream(service: Any, ask: Ask) -> Any:
    return collected(addressed(service.stream_chat, ask)(ask["request"]), ask)


def collected(frames: Iterator[Any], ask: Ask) -> list[Any]:
    """The frames of a stream, each with the seconds since the first one; leaves early where that is asked for."""
    seen: list[Any] = []
    started_s = 0.0
    try:
        for frame in frames:
            started_s = started_s or time.monotonic()
            seen.append({**frame, "at_s": time.monotonic() - started_s} if isinstance(frame, dict) else frame)
            if len(seen) == ask.get("leave_after"):
                break
    except Exception as error:
        raise Broken(seen, error) from error
    return seen


def tokenize(service: Any, ask: Ask) -> Any:
    return addressed(service.tokenize, ask)(ask["request"])


def classification(service: Any, ask: Ask) -> Any:
    return addressed(service.classification, ask)(ask["request"])


def embeddings(service: Any, ask: Ask) -> Any:
    return addressed(service.embeddings, ask)(ask["request"])


def quick_gen(service: Any, ask: Ask) -> Any:
    return service.images.quick_gen(ask["endpoint_id"], ask["request"])


def flex_gen(service: Any, ask: Ask) -> Any:
    return service.images.flex_gen(ask["endpoint_id"], ask["request"])


def speech(service: Any, ask: Ask) -> Any:
    return b"".join(service.audio.speech.create(ask["endpoint_id"], ask["request"]).iter_bytes()).hex()


# End-to-end encryption


def secret_chat(service: Any, ask: Ask) -> Any:
    if ask["surface"] == "v1":
        return service.chat(ask["request"], is_secret=True)
    key, nonce, request = sealed(service, ask)
    return opened(key, nonce, service.chat(ask["endpoint_id"], request))


def secret_stream(service: Any, ask: Ask) -> Any:
    if ask["surface"] == "v1":
        return collected(service.stream_chat(ask["request"], is_secret=True), ask)
    key, nonce, request = sealed(service, ask)
    frames = service.stream_chat(ask["endpoint_id"], request)
    return collected((opened(key, nonce, frame) for frame in frames), ask)


def sealed(service: Any, ask: Ask) -> tuple[bytes, bytes, Any]:
    """The request encrypted. The SDK's class for v2 has no secret calls; its key agreement is the one of v1."""
    from volcengine.ApiInfo import ApiInfo
    from volcengine.maas.ka_mgr import aes_gcm_encrypt_base64_string, key_agreement_client

    service.api_info["cert"] = ApiInfo("POST", "/api/v2/endpoint/{endpoint_id}/cert", {}, {}, {})
    certificate = service._request(ask["endpoint_id"], "cert", {})["cert"]
    key, nonce, token = key_agreement_client(certificate).generate_ecies_key_pair()
    messages = [
        {**message, "content": aes_gcm_encrypt_base64_string(key, nonce, message["content"])}
        for message in ask["request"]["messages"]
    ]
    return key, nonce, {**ask["request"], "messages": messages, "crypto_token": token}


def opened(key: bytes, nonce: bytes, reply: Any) -> Any:
    from volcengine.maas.ka_mgr import aes_gcm_decrypt_base64_string

    message = reply["choices"][0]["message"]
    if message["content"]:
        message["content"] = aes_gcm_decrypt_base64_string(key, nonce, message["content"])
    return reply


# LangChain


def invoke(model: Any, ask: Ask) -> Any:
    return text_of(model.invoke(ask["request"], **ask.get("arguments", {})))


def langchain_stream(model: Any, ask: Ask) -> Any:
    return collected(map(text_of, model.stream(ask["request"], **ask.get("arguments", {}))), ask)


def batch(model: Any, ask: Ask) -> Any:
    return [text_of(reply) for reply in model.batch(ask["request"])]


async def _streamed(model: Any, ask: Ask) -> list[str]:
    return [text_of(piece) async for piece in model.astream(ask["request"])]


def async_stream(model: Any, ask: Ask) -> Any:
    import asyncio

    return asyncio.run(_streamed(model, ask))


def text_of(reply: Any) -> str:
    text: str = reply if isinstance(reply, str) else reply.content
    return text


SDK: dict[str, Callable[[Any, Ask], Any]] = {
    function.__name__: function
    for function in (
        *(chat, stream, tokenize, classification, embeddings),
        *(quick_gen, flex_gen, speech, secret_chat, secret_stream),
    )
}
LANGCHAIN: dict[str, Callable[[Any, Ask], Any]] = {
    "invoke": invoke,
    "stream": langchain_stream,
    "batch": batch,
    "async_stream": async_stream,
}


# One call


def answer(ask: Ask) -> dict[str, Any]:
    """Makes one call; gives back what the SDK surfaced and what went over HTTP."""
    exchanges: list[dict[str, Any]] = []
    try:
        with clock_ahead(ask.get("clock_ahead_s", 0)):
            reply = {"result": call(ask, exchanges)}
    except Broken as broken:
        reply = {"error": surfaced(broken.cause), "frames": broken.frames}
    except Exception as error:
        reply = {"error": surfaced(error), "frames": []}
    return {**reply, "exchanges": exchanges}


def call(ask: Ask, exchanges: list[dict[str, Any]]) -> Any:
    is_langchain = ask["surface"] in ("chat", "llm")
    client = connect_langchain(ask) if is_langchain else connect(ask)
    service = client.client if is_langchain else client
    service.session.hooks["response"] = [functools.partial(record, exchanges)]
    return (LANGCHAIN if is_langchain else SDK)[ask["operation"]](client, ask)


def record(exchanges: list[dict[str, Any]], response: Any, *_: Any, **__: Any) -> None:
    sent = response.request
    body = sent.body.decode() if isinstance(sent.body, bytes) else sent.body
    exchanges.append(
        {
            "target": sent.path_url,
            "sent": {name.lower(): text(value) for name, value in sent.headers.items()},
            "body": body,
            "status": response.status_code,
            "answered": {name.lower(): value for name, value in response.headers.items()},
        }
    )


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@contextlib.contextmanager
def clock_ahead(ahead_s: float) -> Iterator[None]:
    """The clock that the signer reads is wrong for the duration of the block, as on a machine where it is."""
    if not ahead_s:
        yield
        return
    from volcengine.auth.SignerV4 import SignerV4

    right = SignerV4.get_current_format_date
    shift = datetime.timedelta(seconds=ahead_s)

    def wrong() -> str:
        return (datetime.datetime.strptime(right(), X_DATE) + shift).strftime(X_DATE)  # noqa: DTZ007

    SignerV4.get_current_format_date = staticmethod(wrong)
    try:
        yield
    finally:
        SignerV4.get_current_format_date = staticmethod(right)


def surfaced(error: Exception) -> dict[str, Any]:
    fields = {name: getattr(error, name, None) for name in ("code", "code_n", "req_id")}
    return {"class": type(error).__name__, "message": getattr(error, "message", None) or str(error), **fields}


def main() -> None:
    for name in ("VOLC_ACCESSKEY", "VOLC_SECRETKEY"):  # a caller's own keys would win over those of the test
        os.environ.pop(name, None)
    answers, sys.stdout = sys.stdout, sys.stderr  # what an SDK prints is not an answer
    for line in sys.stdin:
        # The client's environment holds the client alone: there is no stricter JSON here.
        reply = answer(json.loads(line))  # noqa: TID251
        print(json.dumps(reply, ensure_ascii=False), file=answers, flush=True)  # noqa: TID251


if __name__ == "__main__":
    main()
