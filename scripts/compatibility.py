"""Writes the table of clients and cases in docs/compatibility.md from what the last ``make test-sdks`` found.

``--check`` writes nothing and exits with 1 when the document says anything else than the tests did, or when they found
a failure.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from arkway.wire import json  # noqa: E402 (the checkout's own tests come first on the path)
from scripts.generate_docs import MARK, markdown_table  # noqa: E402
from tests.sdk.cells import CASES, folder  # noqa: E402

DOCUMENT = ROOT / "docs" / "compatibility.md"
SIGNS = {"passed": "yes", "failed": "NO", "skipped": "not run"}

# Programs of the control plane's tests that hold the same SDK as a row that is there.
SAME = {"go-ark": "go-ark v3", "java-control": "java-ark v3"}

REQUIREMENTS = ROOT / "requirements"
SDKS = ROOT / "tests" / "sdk"


def _python(client: str, package: str) -> str:
    return _version(REQUIREMENTS / f"sdk-{client}.txt", rf"^{re.escape(package)}==(\S+)")


def _version(path: Path, pattern: str) -> str:
    found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{path} names no version that fits {pattern}")
    return found[1]


def clients() -> dict[str, str]:
    """Every client that is tested, by the tests' name for it, in the order of the table."""
    maas_go, ark_go = (r"volc-sdk-golang (v\S+)", r"volcengine-go-sdk (v\S+)")
    pom = r"<artifactId>{}</artifactId>\s*<version>([^<]+)<"
    maas_java, ark_java = pom.format("volc-sdk-java"), pom.format("volcengine-java-sdk-ark-runtime")
    go, java = SDKS / "go", SDKS / "java"
    return {
        "maas": f"Python volcengine {_python('maas', 'volcengine')}",
        "maas-2024": f"Python volcengine {_python('maas-2024', 'volcengine')}",
        "langchain": f"Python langchain-community {_python('langchain', 'langchain-community')}",
        "go-maas": f"Go volc-sdk-golang {_version(go / 'maas/go.mod', maas_go)}",
        "go-maas-2024": f"Go volc-sdk-golang {_version(go / 'maas/go-2024.mod', maas_go)}",
        "java-maas": f"Java volc-sdk-java {_version(java / 'maas/pom.xml', maas_java)}",
        "java-maas-2024": f"Java volc-sdk-java {_version(java / 'maas/pom-2024.xml', maas_java)}",
        "node": f"Node @volcengine/openapi {_node()}",
        "ark": f"Python volcengine-ark-runtime {_python('ark', 'volcengine-ark-runtime')}",
        "ark-2024": f"Python volcengine-python-sdk {_python('ark-2024', 'volcengine-python-sdk')}",
        "arkruntime": f"Python arkruntime {_python('arkruntime', 'arkruntime')}",
        "go-ark": f"Go volcengine-go-sdk {_version(go / 'ark/go.mod', ark_go)}",
        "go-ark-2024": f"Go volcengine-go-sdk {_version(go / 'ark/go-2024.mod', ark_go)}",
        "java-ark": f"Java volcengine-java-sdk-ark-runtime {_version(java / 'ark/pom.xml', ark_java)}",
        "java-ark-2024": f"Java volcengine-java-sdk-ark-runtime {_version(java / 'ark/pom-2024.xml', ark_java)}",
        "openai": f"Python openai {_python('openai', 'openai')}",
    }


def _node() -> str:
    lock = json.load_object((SDKS / "node" / "package-lock.json").read_bytes())
    return str(lock["packages"]["node_modules/@volcengine/openapi"]["version"])


def results() -> dict[str, dict[str, str]]:
    """What the last run found: client → case → outcome, the worst of several."""
    order = list(SIGNS)
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder(ROOT).glob("*.json")):
        for name, cases in json.load_object(path.read_bytes()).items():
            row = found.setdefault(SAME.get(name, name), {})
            for case, outcome in cases.items():
                row[case] = max(outcome, row.get(case, "passed"), key=("passed", "skipped", "failed").index)
    if not found:
        raise SystemExit(f"no results in {folder(ROOT)} ({', '.join(order)}); run `make test-sdks` first")
    return found


def table(found: dict[str, dict[str, str]]) -> str:
    """The Markdown: one row for each client, one column for each case; a dash where a client has no such call."""
    names = {
        name: f"{label}: {surface}" for client, label in clients().items() for name, surface in _surfaces(client, found)
    }
    if unknown := set(found) - set(names):
        raise SystemExit(f"clients that this table does not know: {', '.join(sorted(unknown))}")
    rows = [
        (label, *(SIGNS.get(found.get(name, {}).get(case, ""), "-") for case in CASES)) for name, label in names.items()
    ]
    cells = [outcome for row in found.values() for outcome in row.values()]
    passed = sum(outcome == "passed" for outcome in cells)
    return f"{passed} of {len(cells)} cells pass.\n\n{markdown_table(('client', *CASES), rows)}"


def _surfaces(client: str, found: Iterable[str]) -> Iterable[tuple[str, str]]:
    """The rows of one client, ``<client>`` or ``<client> <surface>``, and what each is about."""
    for name in sorted(found):
        program, _, surface = name.partition(" ")
        if program == client:
            yield name, surface or ("OpenAI" if client == "openai" else "v3")


def main(arguments: Iterable[str]) -> int:
    """Writes the document, or with ``--check`` compares it."""
    found = results()
    text = DOCUMENT.read_text(encoding="utf-8")
    said = MARK.sub(lambda mark: f"{mark[1]}\n{table(found)}\n\n{mark[4]}" if mark[2] == "cells" else mark[0], text)
    failed = any(outcome != "passed" for row in found.values() for outcome in row.values())
    if "--check" in arguments:
        if said != text:
            print(f"{DOCUMENT.relative_to(ROOT)} does not say what the tests found; run `make compatibility`")
        return int(failed or said != text)
    DOCUMENT.write_text(said, encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
