"""What a signature costs to check, and whether a large body holds the event loop up while it is hashed.

The first is measured on the functions themselves, the second on a running server: a client that asks for ``/livez`` all
the time, while others send signed bodies of 16 MiB, which are hashed whole and then refused for their wrong secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
import time
from collections.abc import Callable

import msgspec

from arkway.signing import Head, KeyCache, KeyPair, Policy, authenticate, claim, signed_headers
from benchmarks.load import Target
from benchmarks.machine import pinned, split_cpus
from benchmarks.processes import Server, scripted
from benchmarks.report import Options, Report, Table, quantile

PATH = "/api/v2/endpoint/ep-20240701000000-abcde/chat"
HOST = "127.0.0.1:8080"
PAIR = KeyPair("AKLTbenchmark", "YmVuY2htYXJr")
SIZES = {"1 KB": 1_000, "1 MB": 1_000_000}
PIECE_BYTES = 64 * 1024
BIG_BYTES = 16 * 1024 * 1024 - 1024


def measure(options: Options) -> Report:
    """Microseconds for one whole check, and the slowest answer beside bodies of 16 MiB."""
    seconds = 0.3 if options.quick else 2.0
    checks = {name: _check_us(size, seconds) for name, size in SIZES.items()}
    cpus = split_cpus()
    with scripted(cpus and cpus[0]) as server, pinned(cpus and cpus[1]):
        waits = asyncio.run(_waits(server, 3.0 if options.quick else 15.0))
    rows: list[tuple[str | float | None, ...]] = [(name, *parts) for name, parts in checks.items()]
    lags: list[tuple[str | float | None, ...]] = [(name, *parts) for name, parts in waits.items()]
    return Report(
        {"check_us": {name: parts[0] for name, parts in checks.items()}, "waits_ms": waits},
        [
            Table("One check of a signature, key derived before", ("body", "µs in all", "µs of them SHA-256"), rows),
            Table("A small call's wait, ms", ("beside", "p50", "p99", "slowest"), lags),
        ],
    )


def _check_us(size: int, seconds: float) -> tuple[float, float]:
    body = b"x" * size
    now_s = int(time.time())
    x_date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    headers = signed_headers(PAIR, "POST", f"http://{HOST}{PATH}", body, x_date)
    fields = tuple((name.lower().encode(), value.encode()) for name, value in headers.items())
    head, policy, keys = Head("POST", PATH, "", fields), Policy(services=frozenset(("ml_maas",))), KeyCache()

    def check() -> None:
        claimed = claim(head, policy, now_s)
        authenticate(claimed, policy, keys, PAIR.secret.encode(), _digest(body))

    return _us(check, seconds), _us(lambda: _digest(body), seconds)


def _digest(body: bytes) -> bytes:
    """As the server does it: piece by piece."""
    digest = hashlib.sha256()
    for start in range(0, len(body), PIECE_BYTES):
        digest.update(body[start : start + PIECE_BYTES])
    return digest.digest()


def _us(work: Callable[[], object], seconds: float) -> float:
    """The median of batches, microseconds for one."""
    batches: list[float] = []
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s or len(batches) < 3:
        start_s, count = time.perf_counter(), 0
        while time.perf_counter() - start_s < seconds / 20:
            work()
            count += 1
        batches.append(1e6 * (time.perf_counter() - start_s) / count)
    return quantile(batches, 0.5)


async def _waits(server: Server, seconds: float) -> dict[str, tuple[float, float, float]]:
    target = Target(*server.address)
    alone = await _pinged(target, seconds)
    wrong = KeyPair(server.said["access_key_id"], "d3Jvbmc=")
    with _Sender(target, _big(server, wrong)) as sender:
        beside = await _pinged(target, seconds)
    if sender.refused < 2:
        raise RuntimeError("no body of 16 MiB came to its end")
    return {"nothing": alone, f"signed bodies of 16 MiB ({sender.refused})": beside}


class _Sender:
    """Sends a request again and again from a thread on a blocking socket, which waits outside the interpreter's lock.

    ``refused`` counts answers 401, which are the right ones here.
    """

    def __init__(self, target: Target, request: bytes) -> None:
        self._target, self._request = target, request
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.refused = 0

    def __enter__(self) -> _Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with socket.create_connection((self._target.host, self._target.port)) as connection:
            while not self._stop.is_set():
                connection.sendall(self._request)
                answer = b""
                while b"\r\n\r\n" not in answer or b"}}" not in answer:
                    answer += connection.recv(65536)
                self.refused += answer.startswith(b"HTTP/1.1 401")


def _big(server: Server, pair: KeyPair) -> bytes:
    body = msgspec.json.encode({"messages": [], "pad": "x" * BIG_BYTES})
    x_date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    headers = signed_headers(pair, "POST", f"{server.said['url']}{PATH}", body, x_date)
    lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def _pinged(target: Target, seconds: float) -> tuple[float, float, float]:
    """p50, p99 and the slowest of small calls one after the other, ms."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    request = f"GET /livez HTTP/1.1\r\nHost: {target.host}\r\n\r\n".encode()
    found: list[float] = []
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        start_s = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        await reader.readexactly(length)
        found.append(1e3 * (time.perf_counter() - start_s))
        await asyncio.sleep(0.001)
    writer.close()
    return quantile(found, 0.5), quantile(found, 0.99), max(found)
