"""Writes a run's medians as bars, in SVG; pure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from tests.benchmarks.peers.figures import Measure, Summary
from tests.benchmarks.peers.table import Results, number

WIDTH, LABELS, BAR, GAP = 790, 260, 16, 34
BARS = WIDTH - LABELS - 90
OURS, THEIRS, SPREAD = "#1f6f8b", "#b8bfc6", "#444"


def svg(measures: Mapping[str, Measure], results: Results, *, ours: str) -> str:
    """Draw a group of bars for each measure; a thin line spans lowest to highest."""
    parts: list[str] = []
    y = GAP
    for key, measure in measures.items():
        better = "longer is better" if measure.more_is_better else "shorter is better"
        title = f"{measure.name}, {measure.unit} ({better})"
        parts.append(_text(8, y - 8, title, weight="bold"))
        summaries = {name: Summary.of(rounds) for name, rounds in results[key].items()}
        most = _longest(summaries, ours)
        for name, summary in summaries.items():
            parts += _bar(y, name, summary, most, OURS if name == ours else THEIRS)
            y += BAR + 4
        y += GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}"'
        f' viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _longest(summaries: Mapping[str, Summary | None], ours: str) -> float:
    """The value at the right edge: bars of ten times ours and more end there."""
    most = max((s.highest for s in summaries.values() if s), default=0.0)
    own = summaries[ours]
    return (min(most, own.median * 10) if own else most) or 1.0


def _bar(
    y: int, name: str, summary: Summary | None, most: float, colour: str
) -> list[str]:
    label = _text(LABELS - 8, y + 12, name, anchor="end")
    if summary is None:
        return [label, _text(LABELS, y + 12, "not measured")]
    scale = BARS / most
    left, right, end = (
        LABELS + min(value, most) * scale
        for value in (summary.lowest, summary.highest, summary.median)
    )
    middle = y + BAR / 2
    return [
        label,
        f'<rect x="{LABELS}" y="{y}" width="{end - LABELS:.1f}"'
        f' height="{BAR}" fill="{colour}"/>',
        f'<path d="M{left:.1f} {middle}H{right:.1f}" stroke="{SPREAD}"/>',
        _text(right + 6, y + 12, number(summary.median)),
    ]


def _text(
    x: float, y: int, text: str, *, anchor: str = "start", weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-weight="{weight}"'
        f">{escape(text)}</text>"
    )
