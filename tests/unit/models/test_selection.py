"""Filters and pages: what they give to statements, what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pgflow_cli.errors import UsageError
from pgflow_cli.formats.times import Instant
from pgflow_cli.models.selection import JobFilter, Page, position_of, token

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROWS = [(NOON + timedelta(seconds=n), f"id-{n:04}") for n in range(1200)]


def fetch(limit, after):
    return [row for row in ROWS if after is None or row > after][:limit]


def test_an_empty_filter_narrows_nothing():
    assert JobFilter().is_empty
    assert set(JobFilter().parameters().values()) == {None}


def test_a_glob_names_the_queues_that_it_fits():
    chosen = JobFilter(queues=("emails.*", "billing"))
    known = ["emails.eu", "emails_us", "emails", "billing"]
    assert chosen.expand(known).queues == ("billing", "emails.eu")
    assert JobFilter(queues=("x*",)).expand(known).queues == ("",)


def test_a_relative_time_stays_an_interval():
    chosen = JobFilter(since=Instant(offset=timedelta(hours=-2)))
    assert chosen.parameters()["since_offset"] == timedelta(hours=-2)
    assert chosen.parameters()["since_at"] is None


def test_a_page_says_where_the_next_one_begins():
    rows, position = Page(limit=2).read(fetch, lambda row: row)
    assert list(rows) == ROWS[:2]
    assert position == ROWS[1]
    rest, end = Page(limit=500, after=ROWS[-3]).read(fetch, lambda row: row)
    assert list(rest) == ROWS[-2:]
    assert end is None


def test_all_pages_are_one_stream_of_every_row_once():
    rows, position = Page(everything=True).read(fetch, lambda row: row)
    assert list(rows) == ROWS
    assert position is None


def test_a_cursor_comes_back_as_it_was():
    assert position_of(token(ROWS[7])) == ROWS[7]


@pytest.mark.parametrize(
    "text", ["", "x", "e30", "eyJ0IjoiMj", "W10", "é", "WyJ4IiwxXQ"]
)
def test_a_cursor_of_nobody_is_refused(text):
    with pytest.raises(UsageError):
        position_of(text)
