"""The table of a run, 80 columns wide; pure."""

from __future__ import annotations

import textwrap
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


def short(
    measures: Mapping[str, Measure],
    results: Results,
    notes: Mapping[tuple[str, str], str],
    *,
    ours: str,
) -> list[str]:
    """Write a line for each measure: `ours`, and the best of the others beside it.

    Below stands what is said of the figures that are shown, and of what has none.
    """
    head = f"{'median of rounds':<39}{ours:>9}{'best':>9} {'of':<16}{'ratio':>6}"
    written, said = [head], {}
    for key, measure in measures.items():
        arrow = "↑" if measure.more_is_better else "↓"
        rounds = results[key]
        best = best_of(measure, rounds, ours)
        mine, theirs = (Summary.of(rounds.get(name, ())) for name in (ours, best))
        share = ratio(rounds[ours], rounds[best]) if best else None
        columns = [number(s.median) if s else "—" for s in (mine, theirs)]
        written.append(
            f"{f'{measure.name} {measure.unit} {arrow}':<39}{columns[0]:>9}"
            f"{columns[1]:>9} {best[:16]:<16}"
            f"{'' if share is None else number(share):>6}".rstrip()
        )
        for name in rounds:
            empty = Summary.of(rounds[name]) is None
            if (key, name) in notes and (empty or name in (ours, best)):
                what = key.partition("-")[0]
                said[f"{name}, {what}: {notes[key, name]}"] = None
    for line in said:
        written += textwrap.wrap(
            line, WIDTH, initial_indent="  ", subsequent_indent="    "
        )
    return written


def best_of(measure: Measure, results: Mapping[str, Rounds], ours: str) -> str:
    """The other queue with the best median; "" if none has one.

    A name in parentheses is a mark, and no queue.
    """
    medians = {
        name: summary.median
        for name, rounds in results.items()
        if name != ours and name[0] != "(" and (summary := Summary.of(rounds))
    }
    choose = max if measure.more_is_better else min
    return choose(medians, key=medians.__getitem__, default="")


def with_best(
    measures: Mapping[str, Measure], results: Results, *, ours: str
) -> Results:
    """The results of `ours` and of the best of the others."""
    return {
        key: {
            name: rounds
            for name, rounds in results[key].items()
            if name in (ours, best_of(measure, results[key], ours))
        }
        for key, measure in measures.items()
    }


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
