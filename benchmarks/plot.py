"""Bars as SVG, without a library: one panel under another, a label, a bar and a number in each line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

import msgspec

from benchmarks.report import shown

WIDTH = 760
LABEL = 210
ROOM = 90
LINE = 22
HEAD = 44
OURS, THEIRS, INK = "#0f766e", "#94a3b8", "#1f2937"


class Bar(msgspec.Struct, frozen=True):
    """``ours``: drawn in the colour that stands out."""

    label: str
    value: float
    ours: bool = False


class Panel(msgspec.Struct, frozen=True):
    """``logarithmic`` bars begin at a power of ten, not at nought; the title has to say so."""

    title: str
    bars: Sequence[Bar]
    logarithmic: bool = False

    @property
    def height(self) -> int:
        return HEAD + LINE * len(self.bars) + 12

    def length(self, value: float) -> float:
        """Of a bar, in pixels."""
        most = max((bar.value for bar in self.bars), default=1.0)
        room = WIDTH - LABEL - ROOM
        if not self.logarithmic:
            return room * value / most
        first = math.floor(math.log10(min(bar.value for bar in self.bars)))
        return room * max(0.01, (math.log10(value) - first) / max(1e-9, math.log10(most) - first))


def svg(panels: Sequence[Panel], title: str) -> str:
    """A whole document. Bars without a value are the caller's to leave out."""
    height = sum(panel.height for panel in panels) + 12
    look = f'role="img" font-family="system-ui, sans-serif" font-size="13" fill="{INK}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {look}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    top = 0
    for panel in panels:
        parts += _panel(panel, top)
        top += panel.height
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, top: int) -> list[str]:
    parts = [f'<text x="16" y="{top + 28}" font-weight="600">{escape(panel.title)}</text>']
    for number, bar in enumerate(panel.bars):
        y = top + HEAD + LINE * number
        length = panel.length(bar.value)
        colour = OURS if bar.ours else THEIRS
        parts += [
            f'<text x="{LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{LABEL}" y="{y + 1}" width="{length:.1f}" height="{LINE - 6}" rx="2" fill="{colour}"/>',
            f'<text x="{LABEL + length + 6:.1f}" y="{y + 13}">{escape(shown(bar.value))}</text>',
        ]
    return parts
