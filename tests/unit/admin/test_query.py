"""Fields of requests: what is read, what is refused, and that the schema says so."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from pgflow_cli.admin import query
from pgflow_cli.admin.problems import Problem
from pgflow_cli.admin.query import Field, Kind, read_body, read_query

COUNT = Field("count", query.whole(1, 10), default=3)
NAMES = Field("name", query.text(most=5), many=True)


def refusal(kind: Kind, value: Any) -> Problem:
    with pytest.raises(Problem) as refused:
        Field("it", kind).read(value)
    return refused.value


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        (query.text(most=3), ["", "abc", "äöü"]),
        (query.whole(-1, 2), [-1, 0, 2]),
        (query.number(0.5, 2), [0.5, 1, 2.0]),
        (query.flag(), [True, False]),
        (query.one_of("a", "b"), ["a"]),
        (query.length(1, 60), ["1s", "1m", 1, 59.5]),
    ],
)
def test_what_is_acceptable_is_read(kind: Kind, good: list[Any]) -> None:
    for value in good:
        Field("it", kind).read(value)


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (query.text(most=3), ["abcd", "a\0", "\ud800", 1, None, ["a"], {}]),
        (query.whole(-1, 2), [3, -2, True, 1.0, "1", None, 10**30]),
        (query.number(0.5, 2), [0.4, 2.1, True, "1", float("nan"), float("inf")]),
        (query.flag(), [0, 1, "true", None]),
        (query.one_of("a", "b"), ["A", "", 1]),
        (query.length(1, 60), ["0s", "61s", "x", True, 0, 61, "1" * 100, None]),
        (query.moment("past"), ["x", 1, "", "2026-13-01", "1" * 100]),
        (query.document(), [[], "x", 1, None]),
    ],
)
def test_anything_else_is_refused_by_name_without_repeating_it(
    kind: Kind, bad: list[Any]
) -> None:
    for value in bad:
        problem = refusal(kind, value)
        assert problem.status == HTTPStatus.BAD_REQUEST
        assert problem.error.startswith("it ")


@pytest.mark.parametrize(
    "text", ["1999-01-01", "9999-06-01", "10000-01-01", "Infinity"]
)
def test_a_time_that_nobody_means_is_out_of_range(text: str) -> None:
    assert refusal(query.moment("past"), text).status == 422


def test_a_relative_time_stays_one() -> None:
    assert query.moment("past").read("15m").offset == timedelta(minutes=-15)


def test_a_clamped_number_is_moved_to_its_bounds() -> None:
    limit = Field("limit", query.whole(1, 500, clamped=True), default=100)
    for given_, read in (("0", 1), ("-5", 1), ("501", 500), ("7", 7)):
        assert read_query(MultiDict({"limit": given_}), [limit]) == {"limit": read}
    assert read_query(MultiDict(), [limit]) == {"limit": 100}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (MultiDict({"cuont": "1"}), '"cuont" here; known are count'),
        (MultiDict([("count", "1"), ("count", "2")]), "more than once"),
        (MultiDict({"count": "one"}), "count is not"),
    ],
)
def test_a_query_is_refused_that_says_something_else(
    arguments: MultiDict[str, str], word: str
) -> None:
    with pytest.raises(Problem, match=word):
        read_query(arguments, [COUNT])


@pytest.mark.parametrize("name", ["cAnArY!", "c" * 41])
def test_an_unknown_name_is_repeated_only_if_it_can_be_a_name(name: str) -> None:
    with pytest.raises(Problem, match="parameter that was given") as refused:
        read_query(MultiDict({name: "1"}), [COUNT])
    assert name not in refused.value.error
    with pytest.raises(Problem, match="unknown field that was given") as refused:
        read_body({name: 1}, [COUNT])
    assert name not in refused.value.error


def test_an_item_of_a_list_is_refused_as_one() -> None:
    with pytest.raises(Problem, match="an item of name is not text"):
        read_body({"name": ["a", 1]}, [NAMES])


def test_a_length_beyond_all_bounds_is_told_the_bounds_of_its_field() -> None:
    assert "from 1s to 1m" in refusal(query.length(1, 60), "99999d").error


def test_an_empty_field_of_a_form_is_an_absent_one() -> None:
    empty = MultiDict({"count": ""})
    assert read_query(empty, [COUNT], of_form=True) == {"count": 3}
    with pytest.raises(Problem):
        read_query(empty, [COUNT])


def test_a_parameter_may_be_given_several_times_if_it_says_so() -> None:
    arguments = MultiDict([("name", "a"), ("name", "b")])
    assert read_query(arguments, [NAMES]) == {"name": ["a", "b"]}
    assert read_query(MultiDict(), [NAMES]) == {"name": []}


def test_a_body_is_an_object_of_known_fields() -> None:
    assert read_body({"count": 4}, [COUNT]) == {"count": 4}
    assert read_body({"count": None}, [COUNT]) == {"count": 3}
    for bad in ([], "x", 1, None, {"other": 1}, {"count": [1]}):
        with pytest.raises(Problem):
            read_body(bad, [COUNT])


def test_what_is_required_must_be_there() -> None:
    wanted = Field("it", query.text(), required=True)
    for read in (
        lambda: read_body({}, [wanted]),
        lambda: read_body({"it": None}, [wanted]),
        lambda: read_query(MultiDict(), [wanted]),
    ):
        with pytest.raises(Problem, match="it is required"):
            read()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_whatever_is_sent_is_read_or_refused(value: Any) -> None:
    for kind in (
        query.text(),
        query.whole(0, 9),
        query.number(0, 9),
        query.flag(),
        query.moment("past"),
        query.length(0, 9),
        query.document(),
    ):
        with suppress(Problem):
            Field("it", kind).read(value)
