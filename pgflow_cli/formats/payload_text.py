"""Checks the fields of a job before it is sent to the database; pure.

A payload is sent as the text that was written, never encoded again: 1.10 stays 1.10.
jsonb itself keeps the last of duplicate keys, orders keys, turns -0 into 0 and writes
exponents out.

Every error is a `UsageError` with one sentence that names a field and perhaps a
position, and repeats nothing of what it refuses.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Set
from decimal import Decimal
from functools import lru_cache
from typing import Any, NoReturn

from pgflow_cli.errors import OutOfRange, UsageError
from pgflow_cli.formats import times
from pgflow_cli.formats.times import Instant

# Levels of nesting; the enqueue functions of the database have the same limit.
MAX_DEPTH = 64
MAX_BYTES = 16_777_216
"""The table's ceiling; a queue's own limit lies below, and the database applies it."""
# float64, and with it JavaScript, represents whole numbers exactly up to here.
LARGEST_WHOLE_NUMBER = 2**53
# Characters of a number: converting a longer one takes quadratic time.
LONGEST_NUMBER = 1000
# The gate in the database says these, too.
_BEYOND = (
    "has a number outside float64, or a whole one beyond 2^53 that must be a string"
)
MISSING = "payload_json is missing; write {} for an empty one"

FIELDS = frozenset(
    {
        "job_type",
        "payload_json",
        "queue",
        "run_at",
        "priority",
        "max_attempts",
        "job_id",
        "job_timeout",
        "meta",
    }
)
"""The fields of the body of `POST /jobs` and of a line of a batch."""

JOB_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_FIELD = re.compile(r"[A-Za-z0-9_]{1,40}")
UUID7 = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
)
_REST_OF_A_TIME = (
    r"-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])[Tt ](?:[01]\d|2[0-3]):"
    r"[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?(?:[Zz]|[+-](?:0\d|1[0-5]):[0-5]\d)"
)
_TIME = re.compile(r"[2-9]\d{3}" + _REST_OF_A_TIME, re.ASCII)
_NOT_OURS = re.compile(
    r"[+-]?infinity|(?:[01]\d{3}|\d{5,6})" + _REST_OF_A_TIME, re.ASCII
)
# The enqueue functions of the database have the same sentences.
RUN_AT = "run_at must be a time with a zone, from 2000 to 9998"
LENGTH = "must be seconds, or text such as 500ms, 30s, 5m, 2h, 7d or 1h30m"
_DURATION = re.compile(
    r"(?=\d)(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,12})s)?"
    r"(?:(\d{1,12})ms)?",
    re.ASCII,
)
# Any number that float64 or 2^53 cannot hold has one of these; most documents have
# none, and are spared a Python call for each of their numbers.
_SUSPECT_NUMBER = re.compile(r"\d[\d.]{15}|\d[eE][+-]?\d{3}", re.ASCII)
# Of what json has written, only a whole number: it writes no float that float64 cannot
# hold, and none that is whole beyond 2^53 without an exponent. A time with its
# microseconds has as many digits as such a number; to read each of those back cost 6 of
# 22 microseconds of a job.
_SUSPECT_WHOLE_NUMBER = re.compile(r"\d(?<![\d.]\d)\d{15}", re.ASCII)
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


def text_of(raw: bytes, *, what: str = "the payload") -> str:
    """Decode UTF-8; a byte order mark or a bad byte is refused with its position."""
    if raw.startswith(b"\xef\xbb\xbf"):
        raise UsageError(
            f"{what} begins with a byte order mark; save it as plain UTF-8"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        # From None: the error's own text repeats a byte.
        raise UsageError(f"{what} is not UTF-8 at byte {error.start + 1}") from None


def check(text: str, *, what: str = "the payload", depth: int = MAX_DEPTH) -> Any:
    """Parse a JSON text, and check that every part of pgflow can store it.

    Store the text; the returned value is only for inspection.
    """
    if not text.isascii() or len(text) * 4 > MAX_BYTES:
        _check_characters(text, what)
    if text.count("[") + text.count("{") > depth:
        _check_depth(text, what, depth)
    decoder = _CAREFUL if _SUSPECT_NUMBER.search(text) else _QUICK
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
        raise UsageError(
            f"{what} is not JSON: {reason} at line {error.lineno}, column {error.colno}"
        ) from None
    except _NumberRefused as error:
        raise UsageError(f"{what} {error}") from None
    if "\\u" in text:
        _check_escapes(text, what)
    return value


def check_payload(text: str) -> Any:
    """Parse and check a payload; JSON's null is refused, an empty payload is {}."""
    value = check(text)
    if value is None:
        raise UsageError(MISSING)
    return value


def written(value: object, *, what: str = "the payload") -> str:
    """Return a Python value as JSON that has passed `check`.

    ASCII only, so that the connection's encoding does not matter. Keys that are numbers
    become strings, as in `json.dumps`.
    """
    try:
        text = _ENCODER.encode(value)
    except TypeError as error:
        # json names types only, never values.
        raise UsageError(f"{what} cannot be written as JSON: {error}") from None
    except ValueError as error:
        if "integer string conversion" in str(error):
            raise UsageError(f"{what} {_BEYOND}") from None
        raise UsageError(
            f"{what} holds NaN, an infinity, or itself, which JSON cannot"
        ) from None
    except RecursionError:
        raise UsageError(f"{what} is nested deeper than {MAX_DEPTH} levels") from None
    # json has written valid JSON: it is parsed again only to check its numbers.
    if _SUSPECT_WHOLE_NUMBER.search(text) or len(text) > MAX_BYTES:
        check(text, what=what)
        return text
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(text, what, MAX_DEPTH)
    if "\\u" in text:
        _check_escapes(text, what)
    return text


@lru_cache(maxsize=1024)
def _fits(pattern: re.Pattern[str], name: str) -> bool:
    return pattern.fullmatch(name) is not None


def _is_name(pattern: re.Pattern[str], name: object) -> bool:
    # A subclass of str may not be hashable.
    return isinstance(name, str) and _fits(pattern, str.__str__(name))


def check_job_type(name: object) -> None:
    if name is None or (isinstance(name, str) and not name):
        raise UsageError("job_type is missing")
    if not _is_name(JOB_TYPE, name):
        raise UsageError(
            "job_type must be 1 to 128 letters, digits, or any of _ . : - "
            "and begin with a letter or digit"
        )


def check_queue(name: object) -> None:
    if not _is_name(QUEUE, name):
        raise UsageError(
            "queue must be 1 to 63 letters, digits, or any of _ . - "
            "and begin with a letter or digit"
        )


def _is_whole(number: object, least: int, most: int) -> bool:
    return (
        isinstance(number, int)
        and not isinstance(number, bool)
        and least <= number <= most
    )


def check_priority(number: object) -> None:
    if not _is_whole(number, -100, 100):
        raise UsageError("priority must be a whole number from -100 to 100")


def check_max_attempts(number: object) -> None:
    if not _is_whole(number, 1, 10_000):
        raise UsageError("max_attempts must be a whole number from 1 to 10000")


def check_job_id(job_id: object) -> None:
    if not isinstance(job_id, str) or not UUID7.fullmatch(job_id):
        raise UsageError("job_id must be a UUIDv7")


def check_run_at(text: object) -> None:
    """Accept RFC 3339; whether the month has that day is left to the database.

    Raises OutOfRange for a time that is none of ours, UsageError for what is no time.
    """
    if isinstance(text, str) and _TIME.fullmatch(text):
        return
    if isinstance(text, str) and _NOT_OURS.fullmatch(text):
        raise OutOfRange(RUN_AT)
    raise UsageError(RUN_AT)


def instant_of(text: str) -> Instant:
    """Read RFC 3339; raises as `check_run_at` does."""
    check_run_at(text)
    try:
        return times.parse_instant(text)
    except times.OutOfRange:
        raise OutOfRange(RUN_AT) from None
    except ValueError:
        raise UsageError(RUN_AT) from None


def seconds_of(text: str, *, what: str) -> float:
    """Read a duration such as 500ms, 30s, 5m, 2h, 7d or 1h30m."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(f"{what} {LENGTH}")
    parts = zip(match.groups(), (86400, 3600, 60, 1, 0.001), strict=True)
    return sum(int(number) * unit for number, unit in parts if number)


def timeout_of(given: object) -> float:
    """Return the seconds of a job_timeout: a number of them, or a text."""
    if isinstance(given, str):
        given = seconds_of(given, what="job_timeout")
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise UsageError(f"job_timeout {LENGTH}")
    check_timeout_seconds(given)
    return float(given)


def check_timeout_seconds(seconds: float) -> None:
    if not 0.001 <= seconds <= 2_592_000:
        raise UsageError("job_timeout must be from 1ms to 30d")


def check_meta(meta: object) -> None:
    if not isinstance(meta, Mapping):
        raise UsageError("meta must be a JSON object")


def check_job(fields: object, *, job_type: str | None = None) -> None:
    """Check the body of `POST /jobs`, already decoded by `check`.

    `job_type` is the one for bodies that bring none.
    """
    if type(fields) is not dict:
        raise UsageError("a job must be a JSON object")
    check_names(fields, FIELDS)
    given_type = fields.get("job_type", job_type)
    check_job_type(given_type)
    if fields.get("payload_json") is None:
        raise UsageError(MISSING)
    if len(fields) > 2:
        _check_optional(fields)


def _check_optional(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        # JSON's null means the default, as in the database.
        if value is None or name not in _OPTIONAL:
            continue
        _OPTIONAL[name](value)


_OPTIONAL: dict[str, Callable[[Any], object]] = {
    "queue": check_queue,
    "run_at": check_run_at,
    "priority": check_priority,
    "max_attempts": check_max_attempts,
    "job_id": check_job_id,
    "job_timeout": timeout_of,
    "meta": check_meta,
}


def check_names(fields: Mapping[Any, object], known: Set[str]) -> None:
    """Refuse a field that is not known; its name is repeated if it looks like one: it
    may be payload.
    """
    if fields.keys() <= known:
        return
    stray = next(name for name in fields if name not in known)
    looks_so = isinstance(stray, str) and _FIELD.fullmatch(stray)
    named = f' "{stray}"' if looks_so else ""
    raise UsageError(
        f"unknown field{named}", f"A job may have: {', '.join(sorted(known))}"
    )


def _check_characters(text: str, what: str) -> None:
    """Refuse lone surrogates, which no encoding has, and text beyond the largest
    limit.
    """
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        # A command line's undecodable bytes arrive as surrogates too.
        raise UsageError(
            f"{what} has a character that UTF-8 cannot hold, the {error.start + 1}th"
        ) from None
    if size > MAX_BYTES:
        raise UsageError(f"{what} has {size} bytes; {MAX_BYTES} is the most there is")


def _check_depth(text: str, what: str, limit: int) -> None:
    """Count brackets outside strings, before a recursive parser sees them."""
    level = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        found = match[0]
        if found in "[{":
            level += 1
            if level > limit:
                raise UsageError(f"{what} is nested deeper than {MAX_DEPTH} levels")
        elif found in "]}":
            level -= 1


def _check_escapes(text: str, what: str) -> None:
    """Refuse escapes that jsonb refuses, with a position: \\u0000, lone surrogates."""
    high: re.Match[str] | None = None
    for match in _ESCAPE.finditer(text):
        code = int(match[1], 16) if match[1] else 0x20
        paired = high is not None and high.end() == match.start()
        is_low = 0xDC00 <= code <= 0xDFFF
        if high is not None and not (paired and is_low):
            _refuse_surrogate(high, what)
        if is_low and not paired:
            _refuse_surrogate(match, what)
        if code == 0:
            raise UsageError(
                f"{what} has a NUL character (\\u0000) at character {match.start() + 1}"
            )
        high = match if 0xD800 <= code <= 0xDBFF else None
    if high is not None:
        _refuse_surrogate(high, what)


def _refuse_surrogate(match: re.Match[str], what: str) -> NoReturn:
    raise UsageError(
        f"{what} has half of a surrogate pair at character {match.start() + 1}"
    )


class _NumberRefused(ValueError):
    pass


def _refuse_constant(_name: str) -> NoReturn:
    raise _NumberRefused("holds NaN or an infinity, which JSON does not have")


def _whole_number(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > LARGEST_WHOLE_NUMBER:
        raise _NumberRefused(_BEYOND)
    return int(text)


def _number(text: str) -> float:
    if len(text) > LONGEST_NUMBER:
        raise _NumberRefused(f"has a number of more than {LONGEST_NUMBER} characters")
    value = float(text)
    if math.isinf(value):
        raise _NumberRefused(_BEYOND)
    rounded_down = value == 0 and re.match(r"-?[0.]*[1-9]", text)
    # What lies between half of float64's smallest number and that number is rounded up.
    rounded_up = abs(value) == math.ulp(0) and abs(Decimal(text)) < _SMALLEST_NUMBER
    if rounded_down or rounded_up:
        raise _NumberRefused("has a number too small for float64")
    if abs(value) >= LARGEST_WHOLE_NUMBER:
        exact = Decimal(text)
        whole = exact == exact.to_integral_value()
        # Written with an exponent or a point, it is the same whole number to jsonb.
        if whole and exact != Decimal(repr(value)):
            raise _NumberRefused(_BEYOND)
    return value


# The database's function has it, too.
_SMALLEST_NUMBER = Decimal("4.9e-324")
_ENCODER = json.JSONEncoder(allow_nan=False)
_QUICK = json.JSONDecoder(parse_constant=_refuse_constant)
_CAREFUL = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_int=_whole_number, parse_float=_number
)

_BLANKS = re.compile(r"[ \t\n\r]*")
# Used to find the end of a value: its numbers are not converted.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def members(text: str) -> dict[str, str]:
    """Return the text of each member of an object that `check` has passed.

    A name that comes twice is refused, because it is ambiguous.
    """
    found: dict[str, str] = {}
    place = _after_blanks(text, text.index("{") + 1)
    while text[place] != "}":
        name, place = _DECODER.raw_decode(text, place)
        begin = _after_blanks(text, text.index(":", place) + 1)
        _, end = _DECODER.raw_decode(text, begin)
        if name in found:
            named = f'"{name}" ' if _FIELD.fullmatch(name) else ""
            raise UsageError(f"a field {named}is given twice")
        found[name] = text[begin:end]
        place = _after_blanks(text, end)
        if text[place] == ",":
            place = _after_blanks(text, place + 1)
    return found


def _after_blanks(text: str, place: int) -> int:
    match = _BLANKS.match(text, place)
    return place if match is None else match.end()
