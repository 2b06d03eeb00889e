"""The table of a run, 80 columns wide; pure."""

from __future__ import annotations

from collections.abc import Mapping

from tests.benchmarks.peers.figures import Measure, Rounds, Summary, ratio

WIDTH = 80

# measure -> queue -> figures, a round each
Results = Mapping[str, Mapping[str, Rounds]]


def lines(
    measures: Mapping[str, Measure],
    results: Results,
    notes: Mapping[tuple[str, str], str],
    *,
    ours: str,
) -> list[str]:
    """Write each measure with its queues, and below a queue what limits its figure.

    The last column is what `ours` gives, divided by what the queue gives. An arrow says
    whether more or less of a measure is better.
    """
    written: list[str] = []
    for key, measure in measures.items():
        arrow = "↑" if measure.more_is_better else "↓"
        head = f"{measure.name}: {measure.unit} {arrow}"
        written += [f"{head:<43}{'median':>9}{'lowest–highest':>17}{ours + '/it':>11}"]
        for name, rounds in results[key].items():
            written.append(_line(name, rounds, results[key][ours], ours))
            if (key, name) in notes:
                written.append(f"    {notes[key, name]}"[:WIDTH])
        written.append("")
    return written[:-1]


def _line(name: str, rounds: Rounds, our_rounds: Rounds, ours: str) -> str:
    summary = Summary.of(rounds)
    if summary is None:
        return f"  {name:<41}{'—':>9}"
    spread = f"{number(summary.lowest)}–{number(summary.highest)}"
    line = f"  {name:<41}{number(summary.median):>9}{spread:>17}"
    share = None if name == ours else ratio(our_rounds, rounds)
    return line if share is None else f"{line}{number(share):>11}"


def number(value: float) -> str:
    """Three digits that count, and no more than the size asks for."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
