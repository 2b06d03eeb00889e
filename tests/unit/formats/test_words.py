"""Ids, counts and lists read alike in every sentence."""

from __future__ import annotations

import pytest

from pgflow_cli.formats import words


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 jobs"), (1, "1 job"), (1234, "1,234 jobs")]
)
def test_a_noun_follows_its_number(number: int, said: str) -> None:
    assert words.plural(number, "job") == said


def test_a_plural_may_be_named() -> None:
    assert words.plural(2, "entry", "entries") == "2 entries"


def test_a_count_says_where_counting_stopped() -> None:
    assert words.up_to(1000, 1000) == "1,000"
    assert words.up_to(1000, 1001) == "1,000+"


def test_a_long_list_is_cut_and_the_rest_counted() -> None:
    assert words.some(["a", "b"], 2) == "a, b"
    assert words.some(["a", "b", "c"], 2) == "a, b and 1 more"
    assert words.some([]) == ""


def test_an_id_is_shown_by_its_end() -> None:
    assert words.short_id("01a2081d-307c-7b77-8a50-0f6c9c41e07b") == "9c41e07b"
