"""Durations and instants are read as the help says, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_cli.formats import times
from pgflow_cli.formats.times import Instant

NOW = datetime(2026, 11, 23, 15, 20, 41, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("7d", 604_800),
        ("1d12h", 129_600),
        ("1h30m15s250ms", 5415.25),
        ("1.5h", 5400),
        ("0s", 0),
        (" 30s ", 30),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert times.parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "5 m", "-5m", "5x", "12h1d", "5m5m", "1e3s", "∞", "٣s", "inf", "5M"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a duration looks like"):
        times.parse_duration(text)


def test_a_duration_of_more_than_a_century_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 36500d"):
        times.parse_duration("36501d")


@given(
    st.integers(0, 30000),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 59),
    st.integers(0, 999),
)
def test_every_duration_is_the_sum_of_its_parts(
    days: int, hours: int, minutes: int, seconds: int, ms: int
) -> None:
    text = f"{days}d{hours}h{minutes}m{seconds}s{ms}ms"
    assert times.parse_duration(text) == timedelta(
        days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=ms
    )


@given(st.text())
def test_any_text_is_read_or_refused_with_a_sentence_that_does_not_repeat_it(
    text: str,
) -> None:
    try:
        instant = times.parse_instant(text, now=NOW)
    except ValueError as error:
        sentence = str(error)
    else:
        sentence = ""
        assert (instant.at is None) != (instant.offset is None)
    assert len(text) < 12 or text not in sentence


@given(st.from_regex(times._DATE, fullmatch=True))
def test_anything_that_looks_like_a_date_is_in_range_or_refused(text: str) -> None:
    try:
        at = times.parse_instant(text, now=NOW).at
    except ValueError:
        return
    assert at is not None
    assert 2000 <= at.year <= 9998


@pytest.mark.parametrize(
    ("text", "bare", "offset"),
    [
        ("15m", "past", timedelta(minutes=-15)),
        ("15m", "future", timedelta(minutes=15)),
        ("2h ago", "future", timedelta(hours=-2)),
        ("in 10m", "past", timedelta(minutes=10)),
        ("now", "past", timedelta()),
        ("In 1D12H", "past", timedelta(hours=36)),
    ],
)
def test_a_relative_form_stays_relative(
    text: str, bare: times.Direction, offset: timedelta
) -> None:
    assert times.parse_instant(text, bare=bare, now=NOW) == Instant(offset=offset)


@given(st.datetimes(timezones=st.just(UTC)))
def test_relative_forms_do_not_look_at_the_clock(clock: datetime) -> None:
    assert times.parse_instant("90m ago", now=clock) == Instant(
        offset=timedelta(minutes=-90)
    )


@pytest.mark.parametrize(
    ("text", "bare", "expected"),
    [
        ("today", "past", "2026-11-23T00:00:00Z"),
        ("yesterday", "past", "2026-11-22T00:00:00Z"),
        ("09:30", "past", "2026-11-23T09:30:00Z"),
        ("09:30", "future", "2026-11-24T09:30:00Z"),
        ("16:00", "past", "2026-11-22T16:00:00Z"),
        ("16:00", "future", "2026-11-23T16:00:00Z"),
        ("2026-11-23", "past", "2026-11-23T00:00:00Z"),
        ("2026-11-23 09:30", "past", "2026-11-23T09:30:00Z"),
        ("2026-11-23 09:30:05", "past", "2026-11-23T09:30:05Z"),
        ("2026-11-23T09:30:05.25+02:00", "past", "2026-11-23T07:30:05.250000Z"),
        ("2026-11-23t09:30:05z", "past", "2026-11-23T09:30:05Z"),
        ("@1700000000", "past", "2023-11-14T22:13:20Z"),
        ("@1700000000.5", "past", "2023-11-14T22:13:20.500000Z"),
    ],
)
def test_an_absolute_form_is_read_in_utc(
    text: str, bare: times.Direction, expected: str
) -> None:
    at = times.parse_instant(text, bare=bare, now=NOW).at
    assert at is not None
    assert times.format_iso(at) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tomorrowish", "a time looks like"),
        ("5m ago ago", "a duration looks like"),
        ("25:00", "no such date"),
        ("2026-02-30", "no such date"),
        ("2026-11-23 09:30+24:00", "no such date"),
        ("1999-12-31", "between the years 2000 and 9998"),
        ("10000-01-01", "between the years 2000 and 9998"),
        ("9999-01-01", "between the years 2000 and 9998"),
        ("-infinity", "between the years 2000 and 9998"),
        ("@-1", "between the years 2000 and 9998"),
        ("@999999999999999", "between the years 2000 and 9998"),
        ("infinite", "a time looks like"),
        ("", "a time looks like"),
    ],
)
def test_what_is_no_time_is_refused_with_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        times.parse_instant(text, now=NOW)


@given(
    st.datetimes(
        min_value=datetime(2000, 1, 2),
        max_value=datetime(9998, 12, 30),
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5, minutes=-30))]),
    )
)
def test_iso_and_unix_times_are_read_back(moment: datetime) -> None:
    assert times.parse_instant(times.format_iso(moment)).at == moment
    assert times.parse_instant("@" + times.format_unix(moment)).at == moment
    assert times.parse_instant(moment.isoformat()).at == moment


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0121, "12ms"),
        (0.9999, "1s"),
        (5.13, "5.1s"),
        (9.96, "10s"),
        (59.6, "1m"),
        (252, "4m12s"),
        (2520, "42m"),
        (13560, "3h46m"),
        (187_200, "2d4h"),
        (-90, "-1m30s"),
    ],
)
def test_a_length_of_time_is_written_for_people(seconds: float, text: str) -> None:
    assert times.format_duration(seconds) == text


@given(st.floats(0, 3e9))
def test_what_is_written_for_people_can_be_typed_again(seconds: float) -> None:
    again = times.parse_duration(times.format_duration(seconds)).total_seconds()
    assert again == pytest.approx(seconds, rel=0.06, abs=0.001)


@pytest.mark.parametrize(
    ("ago", "text"),
    [(240, "4m ago"), (0.2, "now"), (-600, "in 10m"), (90000, "1d ago"), (1, "1s ago")],
)
def test_a_moment_is_told_relative_to_now(ago: float, text: str) -> None:
    assert times.format_relative(NOW - timedelta(seconds=ago), NOW) == text
