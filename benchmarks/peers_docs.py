"""The comparison in the documentation, from the results that are kept: ``python -m benchmarks.peers_docs``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchmarks.gateways import GATEWAYS
from benchmarks.peers_results import (
    Figures,
    Kept,
    Outcome,
    Ran,
    growth_table,
    ratio_table,
    read,
    requests_table,
    streams_table,
)
from benchmarks.plot import Bar, Panel, svg
from benchmarks.processes import ROOT
from benchmarks.report import Table, shown

PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "benchmarks-peers.svg"
MARK = re.compile(r"(<!-- measured: peers -->\n).*?(<!-- /measured -->)", re.DOTALL)
MEMORY = ("json_max", "sse_50", "sse_500", "sse_2000")


def main() -> None:
    """Writes the part of the page between its marks, and the plot."""
    write(read())


def write(kept: Kept) -> None:
    """Raises RuntimeError when the page has lost its marks."""
    text, count = MARK.subn(lambda found: found[1] + section(kept) + found[2], PAGE.read_text(encoding="utf-8"))
    if count != 1:
        raise RuntimeError(f"{PAGE.name} has no part `<!-- measured: peers -->` … `<!-- /measured -->`")
    PAGE.write_text(text, encoding="utf-8")
    PLOT.write_text(plot(kept.outcome), encoding="utf-8")


def section(kept: Kept) -> str:
    """The part of the page, Markdown."""
    outcome = kept.outcome
    machine = kept.machine
    figures = outcome.figures()
    steal = max((found["steal_percent"] for found in figures.values()), default=0.0)
    about = (
        f"Machine: {machine['processor']}, {machine['usable_cpus']} processors, {machine['memory_mib'] >> 10} GiB, "
        f"{machine['system']}, Python {machine['python']}; {kept.day}, commit `{kept.commit[:12]}`"
        f"{' and what was not committed' if kept.commit.endswith('+') else ''}; "
        f"at most {steal:.1f} % of a phase was taken by the hypervisor. Medians of the rounds."
    )
    tables = [requests_table(outcome), streams_table(outcome), ratio_table(outcome), memory_table(outcome)]
    if outcome.growth:
        tables.append(growth_table(outcome))
    if outcome.profile:
        rows: list[tuple[str | float | None, ...]] = [(f"`{each.where}`", each.percent) for each in outcome.profile]
        tables.append(Table("Where Arkway's time goes, requests as fast as can be", ("", "% of samples"), rows))
    parts = [about, f"![Requests and frames a second]({PLOT.name})", *map(markdown, tables), notes(outcome)]
    return "\n" + "\n\n".join(parts) + "\n\n"


def memory_table(outcome: Outcome) -> Table:
    """Memory against open streams, by gateway."""
    figures = outcome.figures()
    rows: list[tuple[str | float | None, ...]] = []
    for gateway, ran in _gateways(outcome):
        cells = [figures.get((gateway, "chat", phase), {}).get("pss_mib") for phase in MEMORY]
        rows.append((f"{gateway} {ran.version}", ran.idle_mib, *cells))
    columns = ("", "at start", "64 connections", "50 streams", "500 streams", "2,000 streams")
    return Table("Memory, MiB (proportional set size of all processes)", columns, rows)


def notes(outcome: Outcome) -> str:
    """What stands behind each name."""
    return "\n".join(f"- **{name} {ran.version}** ({ran.language}): {ran.note}." for name, ran in _gateways(outcome))


def _gateways(outcome: Outcome) -> list[tuple[str, Ran]]:
    """Those that were measured, in the order of every run."""
    return [(name, outcome.ran[name]) for name in GATEWAYS if name in outcome.ran and name != "direct"]


def markdown(table: Table) -> str:
    """A table for a page, with its title as a heading."""
    cells = [" | ".join(shown(cell) for cell in row) for row in table.rows]
    ruled = "|".join(["---", *["---:" for _ in table.columns[1:]]])
    lines = [f"#### {table.title}", "", f"| {' | '.join(table.columns)} |", f"|{ruled}|"]
    return "\n".join([*lines, *(f"| {line} |" for line in cells)])


def plot(outcome: Outcome) -> str:
    """Requests and frames a second of every gateway, one below the other."""
    figures = outcome.figures()
    requests = [Bar(_label(outcome, name), found, name == "arkway") for name, found in _rates(figures, "json_max")]
    frames = dict(_rates(figures, "sse_500")) | dict(_rates(figures, "sse_2000"))
    offered = {name for name, _ in _rates(figures, "sse_2000")}
    streams = [
        Bar(_label(outcome, name) + ("" if name in offered else " (500)"), found, name == "arkway")
        for name, found in sorted(frames.items(), key=lambda item: -item[1])
    ]
    return svg(
        [
            Panel("Requests/s on one processor (logarithmic)", requests, logarithmic=True),
            Panel("Frames/s, 2,000 streams of 50 a second each", streams),
        ],
        "Gateways compared: requests and frames a second on one processor",
    )


def _label(outcome: Outcome, gateway: str) -> str:
    version = outcome.ran[gateway].version.partition(" ")[0]
    return gateway if version == "-" else f"{gateway} {version}"


def _rates(figures: dict[tuple[str, str, str], Figures], phase: str) -> Iterator[tuple[str, float]]:
    """(gateway, a second) of those that got anywhere, the fastest first."""
    found = [(name, figures[name, "chat", phase]["per_s"]) for name in GATEWAYS if (name, "chat", phase) in figures]
    return iter(sorted(((name, rate) for name, rate in found if rate > 0), key=lambda item: -item[1]))


if __name__ == "__main__":
    main()
