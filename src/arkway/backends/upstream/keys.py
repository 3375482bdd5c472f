"""Temporary API keys of Ark, exchanged for an access key pair by signed calls (``GetApiKey``, protocol §8.1)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from arkway.backends.upstream.client import Client
from arkway.backends.upstream.target import target_of
from arkway.core.errors import ArkwayError, BackendUnavailable, Misconfigured
from arkway.core.upstream import Credential, Upstream
from arkway.signing.outgoing import KeyPair, signed_headers

LIFETIME_S = 604_800
REFRESH_S = 1800.0
RETRY_S = 30.0
SPARE_S = 2.0
ANSWER_MAX_BYTES = 1 << 20
PATH = "/?Action=GetApiKey&Version=2024-01-01"
REFUSED = "the model's service does not let this one in; its operator has to mend that"

_GATES = {"volces.com": "https://open.volcengineapi.com", "bytepluses.com": "https://open.byteplusapi.com"}
_ADDED_BY_CLIENT = ("host", "content-length")

Told = Callable[[str | ArkwayError], None]


class _Issued(msgspec.Struct, rename="pascal"):
    api_key: str
    expired_time: int


class _Answer(msgspec.Struct, rename="pascal"):
    result: _Issued


_answer = msgspec.json.Decoder(_Answer).decode


def control_origin(base_url: str) -> str:
    """Where keys are asked for: the vendor's gate for the vendor's hosts, any other server itself."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    for domain, gate in _GATES.items():
        if host == domain or host.endswith(f".{domain}"):
            return gate
    return f"{parts.scheme}://{parts.netloc}"


def resource_type(resource: str) -> str:
    """What ``GetApiKey`` calls a model of this name."""
    if resource.startswith("bot-"):
        return "bot"
    return "endpoint" if resource.startswith("ep-") and not resource.startswith("ep-m-") else "presetendpoint"


class TemporaryKeys:
    """One key per endpoint, model or bot; asked for once whoever waits, and renewed half an hour before its end.

    ``clock`` is the wall clock in epoch seconds. Belongs to one event loop.
    """

    def __init__(
        self,
        upstream: Upstream,
        credential: Credential,
        client: Client,
        *,
        project: str = "default",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pair = KeyPair(credential.access_key_id, credential.secret_access_key, upstream.region, "ark")
        if not self._pair.access_key_id or not self._pair.secret:
            raise Misconfigured(f"the upstream `{upstream.name}` needs an access key id and a secret access key")
        gate = target_of(control_origin(upstream.base_url))
        # The host that is signed has to be the one that is sent.
        self._url = f"{'https' if gate.tls else 'http'}://{gate.authority}{PATH}"
        self._client = client
        self._project = project
        self._clock = clock
        self._keys: dict[str, tuple[str, float]] = {}
        self._flights: dict[str, asyncio.Task[str]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    def get(self, resource: str) -> str | None:
        """The key, if there is one that is still good."""
        found = self._keys.get(resource)
        return found[0] if found is not None and found[1] - SPARE_S > self._clock() else None

    def when_got(self, resource: str, told: Told) -> Callable[[], None]:
        """Asks for a key; ``told`` hears it or what went wrong, later. The result calls it off."""
        flight = self._flight(resource)

        def hear(task: asyncio.Task[str]) -> None:
            told(_outcome(task))

        flight.add_done_callback(hear)

        def call_off() -> None:
            flight.remove_done_callback(hear)

        return call_off

    async def wait(self, resource: str) -> str:
        """As `get`, or when it has come. Raises BackendUnavailable, BackendTimeout, BackendFailed."""
        key = self.get(resource)
        if key is not None:
            return key
        flight = self._flight(resource)
        await asyncio.wait((flight,))
        outcome = _outcome(flight)
        if isinstance(outcome, ArkwayError):
            raise outcome
        return outcome

    def drop(self, resource: str, key: str) -> None:
        """The key was refused: it is not shown again."""
        found = self._keys.get(resource)
        if found is not None and found[0] == key:
            del self._keys[resource]

    async def aclose(self) -> None:
        """No more is asked for; whoever waits fails."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _flight(self, resource: str) -> asyncio.Task[str]:
        flight = self._flights.get(resource)
        if flight is None:
            flight = self._flights[resource] = asyncio.create_task(self._exchange(resource))
            flight.add_done_callback(lambda task: self._landed(resource, task))
        return flight

    def _landed(self, resource: str, flight: asyncio.Task[str]) -> None:
        del self._flights[resource]
        if self._closed or flight.cancelled():
            return
        failed = flight.exception() is not None
        if self.get(resource) is None:
            return  # the next call asks
        left_s = self._keys[resource][1] - self._clock()
        self._renew_in(RETRY_S if failed else max(left_s - REFRESH_S, left_s / 2), resource)

    def _renew_in(self, wait_s: float, resource: str) -> None:
        timer = self._timers.pop(resource, None)
        if timer is not None:
            timer.cancel()
        self._timers[resource] = asyncio.get_running_loop().call_later(wait_s, self._flight, resource)

    async def _exchange(self, resource: str) -> str:
        kind = resource_type(resource)
        wanted = {"DurationSeconds": LIFETIME_S, "ResourceIds": [resource], "ResourceType": kind}
        if kind == "presetendpoint":
            wanted["ProjectName"] = self._project
        body = msgspec.json.encode(wanted)
        x_date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        signed = signed_headers(self._pair, "POST", self._url, body, x_date)
        lines = "".join(
            f"{name}: {value}\r\n" for name, value in signed.items() if name.lower() not in _ADDED_BY_CLIENT
        )
        got = await self._client.fetch(b"POST", PATH.encode(), lines.encode(), body, ANSWER_MAX_BYTES)
        if got.status != 200:
            raise BackendUnavailable(REFUSED)
        try:
            issued = _answer(got.body).result
        except (ValueError, RecursionError):
            raise BackendUnavailable(REFUSED) from None
        if not _is_key(issued.api_key):
            raise BackendUnavailable(REFUSED)
        self._keys[resource] = (issued.api_key, issued.expired_time)
        return issued.api_key


def _outcome(flight: asyncio.Task[str]) -> str | ArkwayError:
    if flight.cancelled():
        return BackendUnavailable("the connection to the model's server was given up")
    error = flight.exception()
    if isinstance(error, ArkwayError):
        return error
    return BackendUnavailable(REFUSED) if error is not None else flight.result()


def _is_key(key: str) -> bool:
    return bool(key) and key.isascii() and key.isprintable() and " " not in key
