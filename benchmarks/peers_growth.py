"""How Arkway's cost grows: with connections, with API keys, with endpoints."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
import sys
from collections.abc import Generator
from pathlib import Path

import msgspec

from arkway.stores.home import database_path, pepper
from benchmarks.gateways.arkway import V3_PATH, Arkway, home, run
from benchmarks.gateways.gateway import QUESTION, Command, Place, Started, post
from benchmarks.gateways.routers import free_port
from benchmarks.machine import split_cpus
from benchmarks.peers_load import Bench, Measured, Phase, measured, measured_with
from benchmarks.peers_results import Cost

CONNECTIONS = (1, 10, 100, 1000)
KEYS = (1_000, 10_000, 100_000)
ENDPOINTS = (10, 1_000, 10_000)
ASKED = 1_000
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


class Prepared(Arkway):
    """Arkway over a data directory that is there already."""

    def command(self, place: Place) -> Command:
        return self.serve(place)


def growth(bench: Bench, folder: Path, upstream_port: int, cache: Path, *, quick: bool) -> list[Cost]:
    """Every step: requests as fast as can be."""
    cpus = split_cpus()
    first = Place(free_port(), upstream_port, folder / "growth", cpus and cpus[0])
    first.folder.mkdir()
    arkway = Prepared(cache)
    arkway.prepare(first)
    run(first, "limits", "set", "--whole-account", "--rpm", "1e9", "--tpm", "1e12", "--concurrency", "1e6")
    seconds = 0.7 if quick else 2.0
    found = []
    with _serving(arkway, first) as started:
        for count in CONNECTIONS[:: 3 if quick else 1]:
            phase = Phase("growth", "closed", seconds, count, spread_s=count / 2000)
            found.append(_cost("connections", count, measured(bench, started, started.wires[0], phase, 0)))
    for what, counts in (("keys", KEYS), ("endpoints", ENDPOINTS)):
        for count in counts[:: 2 if quick else 1]:
            print(f"peers: Arkway with {count:,} {what}", file=sys.stderr)
            found.append(_with_many(bench, arkway, first, what, count, seconds))
    return found


@contextlib.contextmanager
def _serving(arkway: Arkway, place: Place) -> Generator[Started]:
    started = Started(arkway, place, "")
    try:
        yield started
    finally:
        started.tree.stop()


def _with_many(bench: Bench, arkway: Arkway, first: Place, what: str, count: int, seconds: float) -> Cost:
    place = msgspec.structs.replace(first, port=free_port(), folder=first.folder / f"{what}-{count}")
    place.folder.mkdir()
    shutil.copytree(home(first), home(place))
    if what == "keys":
        proofs = [(key, arkway.endpoint) for key in _more_keys(place, count)]
    else:
        proofs = [(arkway.key, endpoint) for endpoint in _more_endpoints(place, count, arkway.endpoint)]
    phase = Phase("growth", "closed", seconds, 64)
    with _serving(arkway, place) as started:
        requests = [_request(place, *proof) for proof in secrets.SystemRandom().sample(proofs, min(ASKED, count))]
        cost = _cost(what, count, measured_with(bench, started, requests, phase), started.boot_s)
    shutil.rmtree(place.folder, ignore_errors=True)
    return cost


def _request(place: Place, key: str, endpoint: str) -> bytes:
    body = {"model": endpoint, "messages": QUESTION, "temperature": 0.7}
    return post(place.port, V3_PATH, body, {"Authorization": f"Bearer {key}"})


def _cost(what: str, count: int, result: Measured, boot_s: float | None = None) -> Cost:
    if result.failures or not result.units:
        raise RuntimeError(f"Arkway with {count:,} {what}: {result.load['failures']} {result.load['first_failure']}")
    found = result.figures()
    return Cost(
        what=what,
        count=count,
        per_s=found["per_s"],
        cpu_us=found["cpu_us"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        pss_mib=found["pss_mib"],
        boot_s=boot_s,
    )


def _more_keys(place: Place, count: int) -> list[str]:
    """Rows like that of the key there is, straight into the database; the secrets."""
    digest = pepper(home(place)).digest
    made = [f"ark-{secrets.token_hex(20)}" for _ in range(count)]
    rows: list[dict[str, object]] = [
        {"id": f"key-{_letters(12)}", "digest": digest(key), "last4": key[-4:]} for key in made
    ]
    _copied(place, "api_keys", rows)
    return made


def _more_endpoints(place: Place, count: int, model: str) -> list[str]:
    """Rows like that of the endpoint ``model``, straight into the database; the ids, that one's too."""
    made = sorted({f"ep-20261101{number:06d}-{_letters(5)}" for number in range(count - 1)})
    _copied(place, "endpoints", [{"id": each} for each in made], like=model)
    return [model, *made]


def _copied(place: Place, table: str, rows: list[dict[str, object]], like: str = "") -> None:
    with contextlib.closing(sqlite3.connect(database_path(home(place)))) as database, database:
        database.row_factory = sqlite3.Row
        # the first row of all, or the one named: what a new column holds is right in it
        query = f"SELECT * FROM {table} WHERE id = ? OR ? = '' ORDER BY created_at, id LIMIT 1"
        pattern = dict(database.execute(query, (like, like)).fetchone())
        columns = ", ".join(pattern)
        places = ", ".join(f":{name}" for name in pattern)
        database.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", [{**pattern, **row} for row in rows])


def _letters(count: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(count))
