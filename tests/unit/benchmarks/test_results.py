"""What is made of a comparison's measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.peers_docs import markdown, plot, section
from benchmarks.peers_load import Measured
from benchmarks.peers_profile import largest
from benchmarks.peers_results import Kept, Outcome, Ran, Share, added, cases, kept, ratios, read, report
from benchmarks.report import Table


def measured(gateway: str, phase: str, turn: int, count: int, failures: dict[str, int] | None = None) -> Measured:
    streamed = phase.startswith("sse")
    times: dict[str, Any] = {"count": count, "p50": 2_000_000, "p99": 5_000_000, "buckets": []}
    none = {"count": 0}
    load = {
        "seconds": 2.0,
        "answers": 0 if streamed else count,
        "frames": count if streamed else 0,
        "latency_ns": none if streamed else times,
        "transit_ns": times if streamed else none,
        "failures": failures or {},
        "first_failure": "HTTP/1.1 500",
    }
    return Measured(gateway, "chat", phase, turn, load, 0.0 if gateway == "direct" else 1.0, 10.0, 12.0, 0.0)


def outcome(**more: Any) -> Outcome:
    ran = {name: Ran("1.2", "C", "a note", 9.0) for name in ("direct", "nginx", "arkway")}
    counts = {"direct": 8000, "nginx": 4000, "arkway": 2000}
    found = [
        measured(name, phase, turn, count + turn * 200)
        for turn in range(3)
        for name, count in counts.items()
        for phase in ("json_max", "json_200", "sse_500", "sse_2000")
    ]
    return Outcome(quick=False, everything=True, ran=ran, measured=found, **more)


def test_the_first_case_is_arkways_ceiling() -> None:
    first, *others = cases(outcome())
    assert first == {
        "name": "chat_json_max",
        "gateway": "arkway",
        "rps": 1100.0,
        "p50_ms": 2.0,
        "p99_ms": 5.0,
        "frames_per_s": None,
        "rss_mib": 12.0,
    }
    streams = next(case for case in others if case["name"] == "chat_sse_500")
    assert (streams["rps"], streams["frames_per_s"]) == (None, 4100.0)
    assert len(others) == 11


def test_ratios_are_of_medians() -> None:
    assert ratios(outcome()) == [("nginx 1.2", 2200 / 4200, 4200 / 2200, 2200 / 4200)]


def test_a_wrong_answer_of_arkway_is_a_failure_and_few_of_a_peer_are_not(tmp_path: Path) -> None:
    found = outcome()
    found.measured.append(measured("nginx", "json_max", 3, 4000, {"status": 40}))
    found.measured.append(measured("arkway", "json_max", 3, 4000, {"length": 1}))
    found.measured.append(measured("nginx", "sse_50", 3, 4000, {"frames": 3}))
    folder = kept(found, tmp_path)
    assert folder == tmp_path / "results"
    assert [failure.partition(": ")[0] for failure in found.failures] == [
        "arkway chat json_max",
        "nginx chat sse_50",
    ]
    assert report(found).failures == found.failures


def test_a_run_of_some_is_kept_apart_and_whole(tmp_path: Path) -> None:
    found = outcome(profile=[Share("write in f (a.py)", 12.5)])
    found.everything = False
    folder = kept(found, tmp_path)
    again = read(folder)
    assert again.outcome == found
    assert "| `write in f (a.py)` | 12.5 |" in section(again)


def test_a_gateway_that_cannot_keep_up_has_no_latency() -> None:
    direct = {"per_s": 200.0, "p50_ms": 0.1, "p99_ms": 0.2}
    assert added({"per_s": 100.0, "p50_ms": 900.0, "p99_ms": 2000.0}, direct) == ["saturated", "saturated"]
    assert added({"per_s": 199.0, "p50_ms": 0.5, "p99_ms": 1.2}, direct) == [0.4, 1.0]
    assert added(direct, direct) == [0.1, 0.2]
    assert added({}, direct) == [None, None]


def test_the_plot_has_a_bar_for_each() -> None:
    drawn = ElementTree.fromstring(plot(outcome()))
    words = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert [word for word in words if word and "1.2" in word].count("arkway 1.2") == 2
    assert "Requests/s on one processor (logarithmic)" in words


def test_a_table_as_markdown() -> None:
    table = Table("Some", ("", "n"), [("a", 1234.0), ("b", None)])
    assert markdown(table) == "#### Some\n\n|  | n |\n|---|---:|\n| a | 1,234 |\n| b | - |"


def test_costs_are_blamed_on_functions_of_the_event_loop() -> None:
    stacks = """\
thread (0x1): MainThread;run (/x/lib/python3.11/asyncio/runners.py:9);send (/x/src/arkway/a.py:3);write (libc.so.6) 6
thread (0x1): MainThread;run (/x/lib/python3.11/asyncio/runners.py:9);send (/x/src/arkway/a.py:8);SHA (libcrypto.so) 3
thread (0x1): MainThread;run (/x/lib/python3.11/asyncio/runners.py:9) 1
thread (0x2): drain;wait (/x/lib/python3.11/threading.py:3);0x7f00 (libc.so.6) 90
"""
    assert largest(stacks) == [
        Share("write in send (arkway/a.py)", 60.0),
        Share("send (arkway/a.py)", 30.0),
        Share("run (asyncio/runners.py)", 10.0),
    ]


def test_kept_documents_name_the_machine(tmp_path: Path) -> None:
    found = outcome()
    found.everything = False
    whole: Kept = read(kept(found, tmp_path))
    assert whole.machine["usable_cpus"] >= 1
    assert len(whole.commit.rstrip("+")) in (0, 40)
