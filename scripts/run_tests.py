"""Runs the tests in two processes at once: most of them wait, for servers, deadlines and children, and not for the CPU.

What the first process says is shown as it comes, what the second says at its end. Arguments go to both; with files or
folders among them, one process runs these alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTHING_COLLECTED = 5
COMMON = ("-q", "-m", "not long", "-p", "no:cacheprovider", "--ignore=tests/sdk")
SECOND = ("tests/docs", "tests/house", "tests/wire", "tests/unit")


def main() -> int:
    """0 when all has passed."""
    if any((ROOT / argument.partition("::")[0]).exists() for argument in sys.argv[1:]):
        return subprocess.run([*_pytest([]), *sys.argv[1:]], cwd=ROOT, check=False).returncode
    folders = sorted(f"tests/{path.name}" for path in (ROOT / "tests").iterdir() if any(path.glob("**/test_*.py")))
    first = [folder for folder in folders if folder not in (*SECOND, "tests/sdk")]
    with tempfile.TemporaryFile() as told:
        beside = subprocess.Popen([*_pytest(SECOND), *sys.argv[1:]], cwd=ROOT, stdout=told, stderr=subprocess.STDOUT)
        try:
            code = subprocess.run([*_pytest(first), *sys.argv[1:]], cwd=ROOT, check=False).returncode
            codes = {code, beside.wait()}
        finally:
            beside.kill()
        told.seek(0)
        sys.stdout.write(told.read().decode("utf-8", "replace"))
    return 1 if codes - {0, NOTHING_COLLECTED} or codes == {NOTHING_COLLECTED} else 0


def _pytest(folders: list[str] | tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "pytest", *COMMON, *folders]


if __name__ == "__main__":
    raise SystemExit(main())
