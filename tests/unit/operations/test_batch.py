"""Reading a file of jobs: chunks of bounded size, bad lines by number."""

from __future__ import annotations

import io

import pytest

from pgflow_cli.errors import UsageError
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.operations import batch

LINE = b'{"job_type":"a","payload_json":{"x":1.10}}\n'


def chunks(data: bytes, **plan: object) -> list[batch.Chunk]:
    settings = batch.Plan(JobOptions(), **plan)  # type: ignore[arg-type]
    return list(batch.read(io.BytesIO(data), settings))


def test_lines_are_cut_into_calls_of_a_thousand_and_stay_as_they_are() -> None:
    found = chunks(LINE * 2500)
    assert [len(chunk.lines) for chunk in found] == [1000, 1000, 500]
    assert found[0].lines[0] == LINE.decode().strip()
    assert found[2].numbers[0] == 2001


def test_long_lines_make_small_calls() -> None:
    line = b'{"job_type":"a","payload_json":"' + b"x" * 1_500_000 + b'"}\n'
    assert [len(chunk.lines) for chunk in chunks(line * 5)] == [2, 2, 1]


def test_blank_lines_count_but_are_no_jobs() -> None:
    found = chunks(b"\n  \r\n" + LINE + b"\n" + LINE.strip())
    assert found[0].numbers == [3, 5]


def test_bad_lines_are_told_apart_by_their_number() -> None:
    found = chunks(LINE + b'{"cAnArY\n' + b"\xff\n" + LINE)
    assert found[0].numbers == [1, 4]
    assert [number for number, _ in found[0].refused] == [2, 3]
    assert "cAnArY" not in str(found[0].refused)


def test_a_rate_makes_a_call_of_each_second() -> None:
    found = chunks(LINE * 45, rate=20.0)
    assert [len(chunk.lines) for chunk in found] == [20, 20, 5]


def test_a_line_without_an_end_is_not_read_whole() -> None:
    with pytest.raises(UsageError, match="line 1 is longer than"):
        chunks(b"x" * (batch.LONGEST_LINE + 10))
