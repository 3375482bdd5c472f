"""What an action has found, as a call's usage tells of it: where callers look for it (protocol §7.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict

from arkway.backends.bot import cleaning
from arkway.core.bot import Findings, Quest, Snippet, ToolDetail
from arkway.core.reference import Reference

OUTPUT_MAX_BYTES = 32_768
"""Of what a plugin itself says it gave, beside its sources; more is left out."""

_ALWAYS = ("url", "title", "summary", "site_name")


def detail(source: str, quest: Quest, findings: Findings, times_ms: tuple[int, int], *, shown: bool) -> ToolDetail:
    """One call of an action. ``shown``: the sources are for the caller to see."""
    given: dict[str, Any] = {"query": quest.query}
    place = {"city": quest.asker.city, "district": quest.asker.district}
    given |= {name: value for name, value in place.items() if value}
    return ToolDetail(source, given, _output(findings, quest.action.limit, shown=shown), *times_ms)


def _output(findings: Findings, limit: int, *, shown: bool) -> dict[str, Any]:
    own = findings.output if shown and cleaning.bounded(findings.output, OUTPUT_MAX_BYTES) else {}
    results = _results(findings.snippets[:limit]) if shown else []
    return {"data": {"data": {**own, "results": results}, "status_code": 200}}


def _results(snippets: Sequence[Snippet]) -> list[dict[str, Any]]:
    return [_result(cleaning.reference(snippet.reference, place)) for place, snippet in enumerate(snippets)]


def _result(found: Reference) -> dict[str, Any]:
    result = {name: value for name, value in asdict(found).items() if value or name in _ALWAYS}
    result.pop("idx", None)
    if (cover := found.cover) is not None:
        result.pop("cover")
        result["cover_image"] = asdict(cover)
    return result
