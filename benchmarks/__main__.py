"""``python -m benchmarks [NAME…] [--quick] [--json] [--home DIRECTORY] [--only GATEWAYS] [--profile]``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any, cast

import msgspec

from arkway.config import default_home
from benchmarks.machine import Noise, description, many_files
from benchmarks.report import Options, Report, Unmeasured, show

PROGRAMMES = (
    "gateway",
    "generations",
    "signing",
    "engine",
    "memory",
    "start",
    "ledger",
    "usage",
    "limits",
    "moderation",
    "knowledge",
    "install",
    "peers",
)
ONLY_WHEN_NAMED = ("install", "knowledge", "peers")


def main() -> None:
    """Runs the programmes that were named, or all that need no downloads; exits with 1 when one of them failed."""
    arguments = _arguments()
    only = tuple(filter(None, arguments.only.split(",")))
    options = Options(quick=arguments.quick, home=arguments.home, only=only, profile=arguments.profile)
    names = arguments.names or [name for name in PROGRAMMES if name not in ONLY_WHEN_NAMED]
    many_files()
    results = {name: _result(name, options, tables=not arguments.json) for name in names}
    if arguments.json:
        document = {"machine": description(), "quick": options.quick, "programmes": results}
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    if any("failed" in result for result in results.values()):
        raise SystemExit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Arkway on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(PROGRAMMES)}")
    parser.add_argument("--quick", action="store_true", help="short rounds: does everything run?")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--home", type=Path, default=default_home(os.environ), help="whose models to use")
    parser.add_argument("--only", default="", metavar="A,B", help="peers: these gateways only")
    parser.add_argument("--profile", action="store_true", help="peers: where Arkway's time goes")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(PROGRAMMES):
        parser.error(f"no such programme: {', '.join(sorted(unknown))}; there are {', '.join(PROGRAMMES)}")
    return arguments


def _result(name: str, options: Options, *, tables: bool) -> dict[str, Any]:
    """Runs one programme and shows what it found."""
    noise = Noise()
    try:
        with noise:
            report = cast(Report, importlib.import_module(f"benchmarks.{name}").measure(options))
    except Unmeasured as problem:
        print(f"{name}: not measured: {problem}", file=sys.stderr)
        return {"not_measured": str(problem)}
    except (RuntimeError, OSError) as error:
        print(f"{name}: failed: {error}", file=sys.stderr)
        return {"failed": str(error)}
    if tables:
        for table in report.tables:
            show(table)
    if noise.warning:
        print(f"{name}: {noise.warning}", file=sys.stderr)
    for failure in report.failures:
        print(f"{name}: failed: {failure}", file=sys.stderr)
    failed = {"failed": report.failures} if report.failures else {}
    return {**failed, "seconds": round(noise.seconds, 1), "noise": noise.figures, "figures": report.figures}


if __name__ == "__main__":
    main()
