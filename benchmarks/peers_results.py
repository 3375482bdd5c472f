"""What a comparison found: medians, tables, and the files in which they are kept."""

from __future__ import annotations

import gzip
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.machine import description
from benchmarks.peers_load import Measured
from benchmarks.processes import ROOT
from benchmarks.report import Report, Table, medians

RESULTS = ROOT / "benchmarks" / "results"
FIRST = ("arkway", "chat", "json_max")
FAILED_SHARE = 0.01
RATE_PER_S = 200
SATURATED_SHARE = 0.8
Figures = dict[str, float]


class Ran(msgspec.Struct, frozen=True):
    """A gateway as it was measured."""

    version: str
    language: str
    note: str
    idle_mib: float


class Cost(msgspec.Struct, frozen=True):
    """One step of a growth: ``what`` of something, and what a request cost then."""

    what: str
    count: int
    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    pss_mib: float
    boot_s: float | None = None


class Share(msgspec.Struct, frozen=True):
    """One of the largest costs of a profile, in per cent of the samples."""

    where: str
    percent: float


class Outcome(msgspec.Struct):
    """All that a run has found. ``everything``: no gateway was left out by choice."""

    quick: bool
    everything: bool
    ran: dict[str, Ran] = {}
    measured: list[Measured] = []
    failures: list[str] = []
    growth: list[Cost] = []
    profile: list[Share] = []

    def figures(self) -> dict[tuple[str, str, str], Figures]:
        """Medians over the rounds by (gateway, wire, phase)."""
        grouped: dict[tuple[str, str, str], list[Figures]] = {}
        for each in self.measured:
            grouped.setdefault((each.gateway, each.wire, each.phase), []).append(each.figures())
        return {key: medians(rounds) for key, rounds in grouped.items()}

    def complete(self) -> bool:
        """Whether the figures are worth keeping as the project's."""
        return self.everything and not self.quick and not self.failures


class Kept(msgspec.Struct):
    """The raw data of one run, as it lies beside the results."""

    machine: dict[str, Any]
    commit: str
    day: str
    outcome: Outcome


def kept(outcome: Outcome, cache: Path) -> Path:
    """Writes ``latest.json`` and ``latest.raw.json.gz``; the folder they are in.

    A short run, one of some gateways, or one in which something failed, does not replace the project's results: it is
    kept in the cache.
    """
    outcome.failures += _load_failures(outcome)
    folder = RESULTS if outcome.complete() else cache / "results"
    folder.mkdir(parents=True, exist_ok=True)
    whole = Kept(description(), commit(), time.strftime("%Y-%m-%d", time.gmtime()), outcome)
    raw = gzip.compress(msgspec.json.encode(whole), mtime=0)
    (folder / "latest.raw.json.gz").write_bytes(raw)
    document = {"machine": whole.machine, "commit": whole.commit, "cases": list(cases(outcome))}
    (folder / "latest.json").write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    return folder


def read(folder: Path = RESULTS) -> Kept:
    """The raw data that `kept` has written."""
    return msgspec.json.decode(gzip.decompress((folder / "latest.raw.json.gz").read_bytes()), type=Kept)


def commit() -> str:
    """Of the checkout, with ``+`` when it holds what is not committed."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() + ("+" if changed.stdout.strip() else "")


def cases(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """One for each gateway, way to ask and phase; Arkway's ``chat_json_max`` is the first."""
    figures = outcome.figures()
    for key in sorted(figures, key=lambda each: each != FIRST):  # stable: the others as they were measured
        found, (gateway, wire, phase) = figures[key], key
        streamed = phase.startswith("sse")
        yield {
            "name": f"{wire.replace(' ', '_')}_{phase}",
            "gateway": gateway,
            "rps": None if streamed else round(found["per_s"], 1),
            "p50_ms": _rounded(found.get("p50_ms")),
            "p99_ms": _rounded(found.get("p99_ms")),
            "frames_per_s": round(found["per_s"], 1) if streamed else None,
            "rss_mib": round(found["rss_mib"], 1),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _load_failures(outcome: Outcome) -> list[str]:
    """Answers that were not what they should be: of Arkway none may be, of others one in a hundred."""
    found = []
    for each in outcome.measured:
        allowed = 0.0 if each.gateway == "arkway" else FAILED_SHARE * max(1, each.load["answers"])
        if each.failures > allowed:
            said = each.load["first_failure"][:200]
            found.append(f"{each.gateway} {each.wire} {each.phase}: {each.load['failures']} {said}")
    return found


def report(outcome: Outcome) -> Report:
    """The same for people."""
    figures = outcome.figures()
    tables = [requests_table(outcome), streams_table(outcome), ratio_table(outcome)]
    if outcome.growth:
        tables.append(growth_table(outcome))
    if outcome.profile:
        rows: list[tuple[str | float | None, ...]] = [(each.where, each.percent) for each in outcome.profile]
        tables.append(Table("Where Arkway's time goes, closed loop", ("", "% of samples"), rows))
    listed = {" ".join(key): value for key, value in figures.items()}
    named = {name: msgspec.to_builtins(ran) for name, ran in outcome.ran.items()}
    grown = msgspec.to_builtins(outcome.growth)
    return Report({"gateways": named, "figures": listed, "growth": grown}, tables, outcome.failures)


def _ways(outcome: Outcome) -> Iterator[tuple[str, str, str]]:
    """(gateway, wire, label) of everything that was measured, in order."""
    for gateway, wire in dict.fromkeys((each.gateway, each.wire) for each in outcome.measured):
        version = outcome.ran[gateway].version
        label = gateway if version == "-" else f"{gateway} {version}"
        yield gateway, wire, label if wire == "chat" else f"{label}, {wire}"


def requests_table(outcome: Outcome) -> Table:
    """Ceiling, cost and latency of requests, for every way to ask."""
    figures = outcome.figures()
    direct = figures.get(("direct", "chat", "json_200"), {})
    rows: list[tuple[str | float | None, ...]] = []
    for gateway, wire, label in _ways(outcome):
        most, paced = figures.get((gateway, wire, "json_max"), {}), figures.get((gateway, wire, "json_200"), {})
        rows.append((label, most.get("per_s"), most.get("cpu_us"), *added(paced, direct), most.get("pss_mib")))
    columns = ("", "requests/s", "CPU us/request", "added p50 ms", "added p99 ms", "PSS MiB")
    return Table("Requests: 64 connections as fast as can be; latency over direct at 200/s", columns, rows)


def added(paced: Figures, direct: Figures) -> list[float | str | None]:
    """What a gateway adds to p50 and p99, in ms; to nothing where there is no direct figure, or this is it."""
    if not paced or paced is direct:
        return [paced.get(name) for name in ("p50_ms", "p99_ms")]
    if paced["per_s"] < SATURATED_SHARE * RATE_PER_S:
        return ["saturated", "saturated"]
    return [paced[name] - direct.get(name, 0.0) for name in ("p50_ms", "p99_ms")]


def streams_table(outcome: Outcome) -> Table:
    """Rate, cost and delay of frames, for every way to ask."""
    figures = outcome.figures()
    rows: list[tuple[str | float | None, ...]] = []
    for gateway, wire, label in _ways(outcome):
        less, more = figures.get((gateway, wire, "sse_500"), {}), figures.get((gateway, wire, "sse_2000"), {})
        cells = [less.get(name) for name in ("per_s", "cpu_us", "p50_ms", "p99_ms")]
        rows.append((label, *cells, more.get("per_s"), more.get("p99_ms"), more.get("pss_mib")))
    columns = ("", "500: frames/s", "CPU us/frame", "p50 ms", "p99 ms", "2,000: frames/s", "p99 ms", "PSS MiB")
    return Table("Streams: 25,000 and 100,000 frames/s offered; time of a frame on its way", columns, rows)


def ratios(outcome: Outcome) -> list[tuple[str | float | None, ...]]:
    """(peer with its version, Arkway's requests/s, CPU per request, frames/s at 2,000 streams ÷ the peer's)."""
    figures = outcome.figures()
    rows: list[tuple[str | float | None, ...]] = []
    for gateway, wire, label in _ways(outcome):
        if wire == "chat" and gateway not in ("arkway", "direct"):
            rows.append((label, *(_ratio(figures, gateway, *what) for what in RATIOS)))
    return rows


RATIOS = (("json_max", "per_s"), ("json_max", "cpu_us"), ("sse_2000", "per_s"))


def _ratio(figures: dict[tuple[str, str, str], Figures], gateway: str, phase: str, name: str) -> float | None:
    ours, theirs = (figures.get((each, "chat", phase), {}).get(name) for each in ("arkway", gateway))
    return ours / theirs if ours and theirs else None


def ratio_table(outcome: Outcome) -> Table:
    """Arkway's figures divided by each peer's."""
    columns = ("Arkway ÷", "requests/s", "CPU/request", "frames/s, 2,000 streams")
    return Table("Ratios", columns, ratios(outcome))


def growth_table(outcome: Outcome) -> Table:
    """Arkway's cost against connections, keys and endpoints."""
    rows: list[tuple[str | float | None, ...]] = [
        (f"{each.count:,} {each.what}", each.per_s, each.cpu_us, each.p50_ms, each.p99_ms, each.pss_mib, each.boot_s)
        for each in outcome.growth
    ]
    columns = ("Arkway with", "requests/s", "CPU us/request", "p50 ms", "p99 ms", "PSS MiB", "ready after s")
    return Table("How cost grows", columns, rows)
