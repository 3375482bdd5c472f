"""Runs the tests in two processes at once: most of them wait, for servers, deadlines and children, and not for the CPU.

What the first process says is shown as it comes, what the second says at its end. A few that fail beside all the others
are run once more, alone: what fails then too is broken, what passes is named, for a test must not depend on how busy
the machine is. Arguments go to both; with files or folders among them, one process runs these alone. ``--sdks``: those
of the official SDKs in the place of all others, in one process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
FAILURES, NOTHING_COLLECTED = 1, 5
REPEATED_MAX = 5
COMMON = ("-q", "-m", "not long")
SDKS = "tests/sdk"
SECOND = ("tests/contract/knowledge", "tests/docs", "tests/house", "tests/wire", "tests/security", "tests/unit")


def main() -> int:
    """0 when all has passed."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--sdks", action="store_true")
    asked, arguments = parser.parse_known_args()
    if any((ROOT / argument.partition("::")[0]).exists() for argument in arguments):
        return subprocess.run(_pytest("-p", "no:cacheprovider", *arguments), cwd=ROOT, check=False).returncode
    with tempfile.TemporaryDirectory() as place:
        caches = Path(place, "first"), Path(place, "second")
        if asked.sdks:
            codes = {subprocess.run(_remembering(caches[0], SDKS, *arguments), cwd=ROOT, check=False).returncode}
        else:
            codes = _both(_remembering(caches[0], *_first(), *arguments), _remembering(caches[1], *SECOND, *arguments))
        if codes <= {0, FAILURES, NOTHING_COLLECTED} and FAILURES in codes:
            return _repeated(sorted({name for cache in caches for name in _failed(cache)}), whole_files=asked.sdks)
    return 1 if codes - {0, NOTHING_COLLECTED} or codes == {NOTHING_COLLECTED} else 0


def _first() -> list[str]:
    folders = sorted(f"tests/{path.name}" for path in (ROOT / "tests").iterdir() if any(path.glob("**/test_*.py")))
    within = [f"--ignore={folder}" for folder in SECOND if folder not in folders]
    return [*(folder for folder in folders if folder not in (*SECOND, SDKS)), *within]


def _both(first: list[str], second: list[str]) -> set[int]:
    with tempfile.TemporaryFile() as told:
        beside = subprocess.Popen(second, cwd=ROOT, stdout=told, stderr=subprocess.STDOUT)
        try:
            code = subprocess.run(first, cwd=ROOT, check=False).returncode
            codes = {code, beside.wait()}
        finally:
            beside.kill()
        told.seek(0)
        sys.stdout.write(told.read().decode("utf-8", "replace"))
        sys.stdout.flush()
    return codes


def _repeated(failed: list[str], *, whole_files: bool) -> int:
    """``whole_files``: what the tests of a file found is kept together, so that all of it is found anew."""
    if not 0 < len(failed) <= REPEATED_MAX:
        return FAILURES
    print(f"\nonce more, alone: {len(failed)} that failed beside the others", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += sorted({name.partition("::")[0] for name in failed}) if whole_files else failed
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code == 0:
        print("passed alone, and have to be made independent of what runs beside them:", *failed, sep="\n  ")
    return code


def _failed(cache: Path) -> list[str]:
    found = cache / "v" / "cache" / "lastfailed"
    return list(msgspec.json.decode(found.read_bytes(), type=dict[str, bool])) if found.exists() else []


def _remembering(cache: Path, *arguments: str) -> list[str]:
    return _pytest("-o", f"cache_dir={cache}", *arguments)


def _pytest(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", *COMMON, *arguments]


if __name__ == "__main__":
    raise SystemExit(main())
