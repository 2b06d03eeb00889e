"""An explanation as the lines of a screen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from pgflow_cli.formats import safe_text, times
from pgflow_cli.inspection.explanation import Explanation
from pgflow_cli.inspection.explanation.timeline import Event
from pgflow_cli.models.explanation import RelatedJob

_MARKS = {
    "queued": " ",
    "scheduled": " ",
    "running": ">",
    "succeeded": "+",
    "dlq": "x",
    "canceled": "-",
}
_LONGEST_SENTENCE = 400
_LABEL = 8
_SHORTEST_WORKER, _LONGEST_WORKER = 8, 32
_DETAIL, _NARROWEST_DETAIL = 30, 12  # columns that are left to the last one, if may be
_NARROWEST = 40
_HEADINGS = ("TIME (UTC)", "AFTER", "EVENT", "WORKER", "TOOK", "DETAIL")
_WORDS = re.compile(r"\S+ *")


def lines(
    explained: Explanation,
    *,
    gates: bool = False,
    payload: str | None = None,
    story: bool | None = None,
    width: int | None = None,
) -> Iterator[str]:
    """Return the text for a reader; nothing in it controls a terminal.

    The story is told of jobs that have ended, unless `story` says otherwise. With a
    `width` no line is longer: sentences go on below, rows are cut.
    """
    wide = None if width is None else max(_NARROWEST, width)
    yield from headline(explained, wide)
    yield from _labelled("Why", explained.summary, wide)
    if explained.advice:
        yield from _labelled("Advice", [explained.advice], wide)
    if explained.similar:
        yield from _labelled("Same", [explained.similar], wide)
    if gates and explained.gates:
        rows = [(gate.gate, gate.result, gate.evidence) for gate in explained.gates]
        yield from _aligned([("GATE", "RESULT", "EVIDENCE"), *rows], wide)
    if explained.is_final if story is None else story:
        yield from timeline(explained.story, wide)
    yield from _labelled("Replays", list(_replays(explained)), wide)
    if payload is not None:
        yield from _labelled("Payload", [payload], None, longest=len(payload))
    if explained.next_commands:
        yield from _chunks("Next    ", "  |  ", explained.next_commands, wide)


def timeline(story: Sequence[Event], width: int | None = None) -> Iterator[str]:
    """Return the events as a table."""
    rows = [_HEADINGS, *(_row(event) for event in story)]
    if width is not None:
        others = [max(len(row[n]) for row in rows if row[0]) for n in (0, 1, 2, 4)]
        room = width - sum(others) - len(others) * 2 - _DETAIL - 2
        longest = min(_LONGEST_WORKER, max(_SHORTEST_WORKER, room))
        # Its end is what tells one worker from another.
        rows = [(*row[:3], _tail(row[3], longest), *row[4:]) for row in rows]
    yield from _aligned(rows, width)


def headline(explained: Explanation, width: int | None) -> Iterator[str]:
    """Return which job it is, and its state."""
    job = explained.facts.job
    status = job.status
    parts = [
        f"{job.job_type} on {job.queue}",
        f"[{_MARKS.get(status, '!')}] {status.upper()}",
    ]
    if explained.gates:
        parts.append(f"as of {job.as_of[11:19]} UTC")
    yield from _chunks(f"Job {job.job_id}  ", "  ", parts, width)


def _replays(explained: Explanation) -> Iterator[str]:
    job, related = explained.facts.job, explained.facts.kin
    sources = [each for each in related if each.is_source]
    later = [each for each in related if not each.is_source]
    if sources:
        yield f"this job replays {_named(sources)}"
    if later:
        yield f"this job is replayed by {_named(later)}"
    if job.status == "dlq" and not related:
        yield "none"


def _named(chain: list[RelatedJob]) -> str:
    first, *rest = chain
    relation = "which replays" if first.is_source else "which is replayed by"
    told = f"{first.job_id} ({first.status or 'gone'})"
    return f"{told}, {relation} {_named(rest)}" if rest else told


def _labelled(
    label: str,
    sentences: list[str],
    width: int | None,
    *,
    longest: int = _LONGEST_SENTENCE,
) -> Iterator[str]:
    for number, sentence in enumerate(sentences):
        text = safe_text.neutral(sentence)
        shown = text if len(text) <= longest else text[:longest] + "…"
        beginning = f"{'' if number else label:<{_LABEL}}"
        for part in _wrapped(shown, None if width is None else width - _LABEL):
            yield f"{beginning}{part}"
            beginning = " " * _LABEL


def _wrapped(text: str, width: int | None) -> Iterator[str]:
    """Break a text between words; a word that is too long is broken anywhere."""
    if width is None or len(text) <= width:
        yield text
        return
    line = ""
    for word in _WORDS.findall(text):
        if line and len(line) + len(word.rstrip()) > width:
            yield line.rstrip()
            line = ""
        line += word
        while len(line.rstrip()) > width:
            yield line[:width]
            line = line[width:]
    if line.strip():
        yield line.rstrip()


def _chunks(
    beginning: str, between: str, chunks: Iterable[str], width: int | None
) -> Iterator[str]:
    """Put chunks on a line, and on more where one is too short; none is broken."""
    line, first = beginning, True
    for chunk in chunks:
        longer = f"{line}{'' if first else between}{safe_text.neutral(chunk)}"
        if not first and width is not None and len(longer) > width:
            yield line
            longer = " " * _LABEL + safe_text.neutral(chunk)
        line, first = longer, False
    yield line


def _row(event: Event) -> tuple[str, ...]:
    if event.at is None:
        return ("", "", event.detail, "", "", "")
    took = "" if event.took_ms is None else times.format_duration(event.took_ms / 1000)
    return (
        event.at[5:19].replace("T", " "),
        times.format_duration(event.after or 0.0),
        safe_text.neutral(event.event),
        safe_text.neutral(event.worker_id or ""),
        took,
        safe_text.neutral(event.detail),
    )


def _aligned(rows: Sequence[tuple[str, ...]], width: int | None) -> Iterator[str]:
    """Return the rows as a table whose last column goes on below."""
    # A line that stands for hidden ones widens no column.
    full = [row for row in rows if row[0]]
    widths = [max(len(row[n]) for row in full) for n in range(len(rows[0]) - 1)]
    indent = sum(widths) + 2 * len(widths)
    room = None if width is None else max(_NARROWEST_DETAIL, width - indent)
    for *cells, last in rows:
        padded = zip(cells, widths, strict=True)
        beginning = "".join(f"{cell:<{size}}  " for cell, size in padded)
        for part in _wrapped(safe_text.neutral(last)[:_LONGEST_SENTENCE], room):
            yield _cut(f"{beginning}{part}".rstrip(), width)
            beginning = " " * indent


def _cut(text: str, width: int | None) -> str:
    if width is None or len(text) <= width:
        return text
    return f"{text[: width - 1]}…"


def _tail(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"…{text[1 - longest :]}"
