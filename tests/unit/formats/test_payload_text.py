"""What a job may hold: refused before the database, in one sentence, no echo."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_cli.errors import UsageError
from pgflow_cli.formats import payload_text

CANARY = "cAnArY"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def refused(check: Callable[[Any], object], value: object) -> str | None:
    """Return the sentence with which a value is refused, or None."""
    try:
        check(value)
    except UsageError as error:
        return error.message
    return None


@given(json_values, st.booleans())
def test_what_json_can_say_is_accepted(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    found = payload_text.check(text)
    assert found == value


@given(st.text())
def test_any_text_is_accepted_or_refused_in_one_sentence(text: str) -> None:
    refusal = refused(payload_text.check, text)
    assert refusal is None or (refusal and "\n" not in refusal)


@given(st.text(alphabet='[]{}":,\\u0dD8cC1eE+-. \t\nNaI'))
def test_what_passes_is_json_without_what_jsonb_refuses(text: str) -> None:
    try:
        value = payload_text.check(text)
    except UsageError:
        return
    said = json.dumps(value, ensure_ascii=False)
    assert "\0" not in said
    said.encode("utf-8")


@given(st.binary())
def test_any_bytes_are_text_or_refused_with_a_position(raw: bytes) -> None:
    refusal = refused(payload_text.text_of, raw)
    if refusal is None:
        assert payload_text.text_of(raw).encode() == raw
    else:
        assert "byte" in refusal


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not JSON: expecting value at line 1, column 1"),
        ('{"a": cAnArY}', "not JSON: expecting value at line 1, column 7"),
        ('{"a": 1,\n "b" cAnArY}', "expecting ':' delimiter at line 2, column 6"),
        ('{"cAnArY": 1} cAnArY', "not JSON: extra data"),
        ('{"cAnArY', "not JSON: unterminated string starting at line 1, column 2"),
        ('"cAnArY\n"', "not JSON: invalid control character at line 1, column 8"),
        ('"cAnArY\0"', "not JSON: invalid control character"),
        ("[NaN]", "NaN or an infinity"),
        ("[Infinity]", "NaN or an infinity"),
        ("-Infinity", "NaN or an infinity"),
        (r'"cAnArY\u0000"', "NUL character (\\u0000) at character 8"),
        (r'"cAnArY\ud800"', "half of a surrogate pair at character 8"),
        (r'"\udc00 cAnArY"', "half of a surrogate pair at character 2"),
        (r'"\ud800\ud800\udc00"', "half of a surrogate pair at character 2"),
        (r'"\ud83d cAnArY \ude00"', "half of a surrogate pair"),
        ('"cAnArY\udcff"', "a character that UTF-8 cannot hold"),
        ("1e400", "a number outside float64"),
        ("[-1E400]", "a number outside float64"),
        ("1e131071", "a number outside float64"),
        ("1e-400", "a number too small for float64"),
        ("24703283e-331", "a number too small for float64"),
        ("9" * 5000, "a whole one beyond 2^53"),
        ("[1." + "0" * 5000 + "]", "a number of more than 1000 characters"),
        ("9007199254740993", "a whole one beyond 2^53"),
        ("-9007199254740993", "a whole one beyond 2^53"),
        ("277371540300585952e0", "a whole one beyond 2^53"),
        ("9007199254740993.0", "a whole one beyond 2^53"),
        ("[" * 65 + "]" * 65, "nested deeper than 64 levels"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested deeper than 64 levels"),
        ("[" * 100_000, "nested deeper than 64 levels"),
        ('"' + "ü" * 8_388_608 + '"', "16777218 bytes"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_an_unacceptable_payload_is_named_and_not_repeated(
    text: str, sentence: str
) -> None:
    with pytest.raises(UsageError) as raised:
        payload_text.check(text)
    assert sentence in raised.value.message
    assert CANARY not in raised.value.message
    assert len(raised.value.message) < 200


@pytest.mark.parametrize(
    "text",
    [
        "9007199254740992",
        "-9007199254740992",
        '"9007199254740993"',
        '"1e400 and 99999999999999999999"',
        "1e308",
        "9007199254740994.0",
        "12345678901234567890.5",
        "-1.7976931348623157e308",
        "5e-324",
        "0e999",
        "0.0000000000000000000000000001",
        "1.10",
        r'"\\u0000"',
        r'"\ud83d\ude00"',
        r'"\\\ud83d\ude00\\"',
        "[" * 64 + "]" * 64,
        '"' + "[" * 100 + '"',
        '["\\"' + "{" * 100 + '"]',
        '{"a": 1, "a": 2}',
        "-0.0",
        '"' + "x" * (payload_text.MAX_BYTES - 2) + '"',
    ],
    ids=lambda value: value[:20],
)
def test_what_only_looks_bad_is_accepted(text: str) -> None:
    payload_text.check(text)


def test_a_byte_order_mark_is_refused() -> None:
    with pytest.raises(UsageError, match="byte order mark"):
        payload_text.text_of(b"\xef\xbb\xbf{}")


def test_a_bad_byte_is_refused_with_its_position() -> None:
    with pytest.raises(UsageError, match="not UTF-8 at byte 9") as raised:
        payload_text.text_of(b'{"cAnA":\xff}')
    assert CANARY not in raised.value.message


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        {CANARY},
        b"cAnArY",
        "cAnArY\0",
        "cAnArY\ud800",
        2**53 + 1,
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(UsageError) as raised:
        payload_text.written({"key": value})
    assert CANARY not in raised.value.message


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(UsageError):
        payload_text.written(value)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UsageError, match="deeper than 64"):
        payload_text.written(deep)


@given(json_values)
def test_a_written_value_reads_as_itself(value: Any) -> None:
    try:
        text = payload_text.written(value)
    except UsageError:
        return
    assert json.loads(text) == value
    assert text.isascii()


@given(st.text())
def test_a_name_is_accepted_only_if_it_is_plain(name: str) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    plain = bool(name) and name[0] in allowed and set(name[1:]) <= allowed | set("_.-")
    try:
        payload_text.check_queue(name)
        accepted = True
    except UsageError:
        accepted = False
    assert accepted == (plain and len(name) <= 63)


@pytest.mark.parametrize(
    "name",
    ["", "a" * 129, "../x", "a%2f", "a\n", "a b", "ä", "_a", "a\0", "-a", "x" * 10_240],
)
def test_a_bad_job_type_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="job_type"):
        payload_text.check_job_type(name)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ([], "a job must be a JSON object"),
        ("cAnArY", "a job must be a JSON object"),
        ({}, "job_type is missing"),
        ({"job_type": 5, "payload_json": {}}, "job_type must be 1 to 128"),
        ({"job_type": "a"}, "payload_json is missing"),
        ({"job_type": "a", "payload_json": None}, "payload_json is missing"),
        ({"job_type": "a", "payload_json": {}, "to": "cAnArY"}, 'unknown field "to"'),
        ({"job_type": "a", "payload_json": {}, "cAnArY!": 1}, "unknown field"),
        ({"priority": True}, "priority must be a whole number from -100 to 100"),
        ({"priority": 1.0}, "priority must be"),
        ({"priority": "1"}, "priority must be"),
        ({"priority": 101}, "priority must be"),
        ({"max_attempts": 0}, "max_attempts must be a whole number from 1 to 10000"),
        ({"max_attempts": 2**63}, "max_attempts must be"),
        ({"queue": 1}, "queue must be 1 to 63"),
        ({"queue": "a:b"}, "queue must be 1 to 63"),
        ({"run_at": "tomorrow"}, "run_at must be a time with a zone"),
        ({"run_at": "2026-01-01T00:00:00"}, "run_at must be"),
        ({"run_at": "infinity"}, "run_at must be"),
        ({"run_at": "10000-01-01T00:00:00Z"}, "run_at must be"),
        ({"job_timeout": [5]}, "job_timeout must be seconds"),
        ({"job_timeout": "31d"}, "job_timeout must be"),
        ({"job_timeout": "5 m"}, "job_timeout must"),
        ({"meta": []}, "meta must be a JSON object"),
        ({"job_id": "cAnArY"}, "job_id must be a UUIDv7"),
        ({"job_id": "9c41e07b-1111-4111-8111-111111111111"}, "job_id must be a UUIDv7"),
    ],
    ids=str,
)
def test_a_bad_job_is_refused(fields: Any, sentence: str) -> None:
    good = {"job_type": "a", "payload_json": {}}
    whole = isinstance(fields, dict) and not fields.keys() & {"job_type"} and fields
    with pytest.raises(UsageError) as raised:
        payload_text.check_job({**good, **fields} if whole else fields)
    assert sentence in raised.value.message
    assert CANARY not in raised.value.message


def test_a_job_takes_its_type_from_the_batch_if_it_has_none() -> None:
    payload_text.check_job({"payload_json": {}}, job_type="email_send")


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_value_is_refused_as_its_text_is(whole: int, part: float) -> None:
    values: list[object] = [whole, [1, whole], {"n": -whole}, {"n": part}, [part, part]]
    for value in values:
        try:
            payload_text.check(json.dumps(value))
        except UsageError:
            with pytest.raises(UsageError):
                payload_text.written(value)
        else:
            assert json.loads(payload_text.written(value)) == value
