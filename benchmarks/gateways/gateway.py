"""What every gateway is to the benchmark: installed, started in front of an upstream, checked, ended."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import psutil

from benchmarks.machine import pinned

QUESTION = [
    {"role": "system", "content": "你是豆包,是由字节跳动开发的 AI 人工智能助手"},
    {"role": "user", "content": "常见的十字花科植物有哪些?"},
]
FRAMES = 128
ANSWER_BYTES = 563
STOP_LIMIT_S = 15.0
KEY = "sk-benchmark-0123456789abcdef0123456789abcdef"


class Place(msgspec.Struct, frozen=True):
    """Where a gateway runs: its own port, its upstream's port, a scratch folder, its processor (None = any)."""

    port: int
    upstream_port: int
    folder: Path
    cpu: int | None


class Command(msgspec.Struct, frozen=True):
    argv: Sequence[str]
    environ: Mapping[str, str] = {}


class Wire(msgspec.Struct, frozen=True):
    """One way to ask: whole requests, plain and streamed, and one with a wrong key where keys are checked.

    ``answer_bytes`` 0 = of no fixed length, because the gateway writes answers of its own. ``frames_differ``: its
    frames are not those of another way to ask.
    """

    name: str
    question: bytes
    stream: bytes
    wrong: bytes | None = None
    answer_bytes: int = 0
    frames_differ: bool = True


class Gateway:
    """A peer. ``proves``: it checks the caller's key and answers a wrong one with ``refusal``.

    ``note`` stands beside its figures.
    """

    name: ClassVar[str]
    version: ClassVar[str] = ""
    language: ClassVar[str]
    note: ClassVar[str] = ""
    proves: ClassVar[bool] = False
    refusal: ClassVar[int] = 401
    path: ClassVar[str] = "/v1/chat/completions"
    model: ClassVar[str] = "mock"
    headers: ClassVar[Mapping[str, str]] = {}
    boot_s: ClassVar[float] = 60.0

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def install(self) -> str:
        """Puts it in place, if it is not; the version. Raises Absent."""
        raise NotImplementedError

    def command(self, place: Place) -> Command | None:
        """How it is started; configuration is written into the place's folder. None = nothing is started."""
        raise NotImplementedError

    def port(self, place: Place) -> int:
        """Where it listens; 0 = it has not said so yet."""
        return place.port

    def wires(self, place: Place) -> list[Wire]:
        """The ways to ask that are measured, the first one in every phase."""
        extra = self.extra_headers(place)
        wrong = self._post(place, {}, "wrong", extra) if self.proves else None
        stream = {"stream": True, "max_tokens": FRAMES}
        return [Wire("chat", self._post(place, {}, KEY, extra), self._post(place, stream, KEY, extra), wrong)]

    def extra_headers(self, place: Place) -> Mapping[str, str]:
        return self.headers

    def _post(self, place: Place, extra: dict[str, Any], key: str, headers: Mapping[str, str]) -> bytes:
        body = {"model": self.model, "messages": QUESTION, "temperature": 0.7, **extra}
        return post(place.port, self.path, body, {"Authorization": f"Bearer {key}", **headers})


def post(port: int, path: str, body: dict[str, Any] | bytes, headers: Mapping[str, str]) -> bytes:
    """A whole request, ready to be written."""
    payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
    fields = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json", **headers}
    fields["Content-Length"] = str(len(payload))
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + payload


def asked(port: int, request: bytes, limit_s: float = 30.0) -> tuple[int, bytes]:
    """Sends a whole request on a new connection: status and body. Raises OSError or http.client.HTTPException."""
    with socket.create_connection(("127.0.0.1", port), timeout=limit_s) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection, method="POST")
        response.begin()
        return response.status, response.read()


class Tree:
    """A gateway's processes, all of them: what they use, and whether they may run."""

    def __init__(self, child: subprocess.Popen[bytes] | None) -> None:
        self.child = child

    def processes(self) -> list[psutil.Process]:
        if self.child is None:
            return []
        try:
            first = psutil.Process(self.child.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        """Processor seconds of all threads that live, by the scheduler's own nanoseconds."""
        spent_ns = 0
        for process in self.processes():
            for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
                try:
                    spent_ns += int(file.read_text().split()[0])
                except (OSError, IndexError):
                    continue
        return spent_ns / 1e9

    def memory_mib(self) -> tuple[float, float]:
        """(proportional, resident) memory in MiB; what processes share, the second counts for each of them."""
        proportional = resident = 0
        for process in self.processes():
            try:
                text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            except OSError:
                continue
            sizes = {line.split()[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
            proportional += sizes.get("Pss:", 0)
            resident += sizes.get("Rss:", 0)
        return proportional / 1024, resident / 1024

    def send(self, number: int) -> None:
        """A signal to every process."""
        for process in self.processes():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def alive(self) -> bool:
        return self.child is None or self.child.poll() is None

    def threads(self) -> list[int]:
        return [thread.id for process in self.processes() for thread in process.threads()]

    def stop(self) -> None:
        """Ends all processes, kindly at first."""
        if self.child is None:
            return
        members = self.processes()
        self.send(signal.SIGCONT)
        self.child.terminate()
        try:
            self.child.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        for process in members:
            if process.is_running():
                process.kill()


class Started:
    """A gateway that runs: its processes and the ways to ask it."""

    def __init__(self, gateway: Gateway, place: Place, version: str) -> None:
        self.gateway, self.place, self.version = gateway, place, version
        self.boot_s = 0.0
        self._log = place.folder / "log"
        self.tree = Tree(self._spawned())
        self._limit_s = time.monotonic() + gateway.boot_s
        try:
            self.port = self._await_port()
            self.wires = gateway.wires(msgspec.structs.replace(place, port=self.port))
            self._await_answer()
        except BaseException:
            self.tree.stop()
            raise

    def _spawned(self) -> subprocess.Popen[bytes] | None:
        command = self.gateway.command(self.place)
        if command is None:
            return None
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("ARKWAY_", "PYTHON"))}
        with pinned(self.place.cpu), self._log.open("wb") as log:
            return subprocess.Popen(
                command.argv,
                cwd=self.place.folder,
                env={**environ, **command.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _await_port(self) -> int:
        while self._may_come():
            if port := self.gateway.port(self.place):
                return port
            time.sleep(0.02)
        raise RuntimeError(f"{self.gateway.name} does not listen\n{self.log_tail()}")

    def _may_come(self) -> bool:
        return self.tree.alive() and time.monotonic() < self._limit_s

    def _await_answer(self) -> None:
        """Asks until the answer is 200. Raises RuntimeError, with what the gateway said and logged."""
        started_s = self._limit_s - self.gateway.boot_s
        said = "no answer"
        while self._may_come():
            try:
                status, body = asked(self.port, self.wires[0].question, 10.0)
            except (OSError, http.client.HTTPException) as error:
                said = str(error)
            else:
                said = f"{status} {body[:200]!r}"
                if status == 200:
                    self.boot_s = time.monotonic() - started_s
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{self.gateway.name} does not answer: {said}\n{self.log_tail()}")

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-1500:] if self._log.exists() else ""

    def check(self) -> list[Wire]:
        """Is what will be measured right? The ways to ask with the length of their answers. Raises RuntimeError."""
        with ThreadPoolExecutor(len(self.wires)) as pool:  # a stream takes its time
            return list(pool.map(self._checked, self.wires))

    def _checked(self, wire: Wire) -> Wire:
        status, answer = asked(self.port, wire.question)
        if status != 200 or ("十字花科".encode() not in answer and b"\\u5341\\u5b57" not in answer):
            raise RuntimeError(f"{self.gateway.name} ({wire.name}) answers wrongly: {status} {answer[:300]!r}")
        status, body = asked(self.port, wire.stream)
        stamps = body.count(b"@@0")
        if status != 200 or stamps != FRAMES or b"[DONE]" not in body[-40:]:
            raise RuntimeError(
                f"{self.gateway.name} ({wire.name}) streams wrongly: {status}, {stamps} stamps, end {body[-200:]!r}"
            )
        if wire.wrong is not None:
            status, answer = asked(self.port, wire.wrong)
            if status != self.gateway.refusal:
                raise RuntimeError(f"{self.gateway.name} ({wire.name}) takes any key: {status} {answer[:300]!r}")
        _, again = asked(self.port, wire.question)
        return msgspec.structs.replace(wire, answer_bytes=len(again) if len(again) == ANSWER_BYTES else 0)
