"""Kinds of values that a field may have: read from JSON, and from what a URL holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pgflow_cli.formats import payload_text, times
from pgflow_cli.formats.times import Direction, Instant

Schema = Mapping[str, Any]

LONGEST_TEXT = 1000
# More digits Python does not read; a number of so many is out of all bounds anyway.
_WHOLE = re.compile(r"[+-]?\d{1,1000}", re.ASCII)
_DECIMAL = re.compile(r"\d{1,12}(?:\.\d{1,6})?", re.ASCII)
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


class Unacceptable(Exception):
    """A value is not acceptable; its field names itself."""


class OutOfRange(Unacceptable):
    """A time that nobody can have meant: 422."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: its JSON schema, the words for what it is, how it is read.

    `of_text` turns what stands in a URL into what would stand in JSON. A time may be
    out of range, which is an error of its own. What is `as_written` is given on as the
    text that stood in the body.
    """

    schema: Schema
    expects: str
    read: Callable[[Any], Any]
    of_text: Callable[[str], Any] = field(default=lambda text: text)
    is_time: bool = False
    as_written: bool = False


def text(
    pattern: re.Pattern[str] | None = None,
    expects: str = "",
    *,
    most: int = LONGEST_TEXT,
) -> Kind:
    """Return text of a pattern; without one, any text but for NUL."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or len(value) > most or "\0" in value:
            raise Unacceptable
        if pattern is not None and not pattern.fullmatch(value):
            raise Unacceptable
        _check_halves(value)
        return value

    schema: dict[str, Any] = {"type": "string", "maxLength": most}
    if pattern is not None:
        schema["pattern"] = f"^(?:{pattern.pattern})$"
    return Kind(schema, expects or f"text of up to {most} characters", read)


def _check_halves(value: str) -> None:
    """Refuse half of a character, which UTF-8 does not have."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unacceptable("has half of a surrogate pair") from None


def whole(least: int, most: int, *, clamped: bool = False) -> Kind:
    """Return a whole number; a clamped one beyond its bounds is moved to them."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unacceptable
        if clamped:
            return min(max(value, least), most)
        if not least <= value <= most:
            raise Unacceptable
        return value

    schema: dict[str, Any] = {"type": "integer"}
    if not clamped:
        schema |= {"minimum": least, "maximum": most}
    return Kind(
        schema,
        "a whole number" if clamped else f"a whole number from {least} to {most}",
        read,
        lambda text: int(text) if _WHOLE.fullmatch(text) else text,
    )


def number(least: float, most: float) -> Kind:
    """Return a number between two bounds, both included."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unacceptable
        if not least <= value <= most:
            raise Unacceptable
        return float(value)

    def of_text(text: str) -> Any:
        try:
            return float(text)
        except ValueError:
            return text

    schema = {"type": "number", "minimum": least, "maximum": most}
    bounds = f"{least:.10g} to {most:.10g}"
    return Kind(schema, f"a number from {bounds}", read, of_text)


def flag() -> Kind:
    """Return true or false; in a URL 1 and 0, too."""

    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise Unacceptable
        return value

    def of_text(text: str) -> Any:
        return _BOOLEANS.get(text.lower(), text)

    return Kind({"type": "boolean"}, "true or false", read, of_text)


def one_of(*words: str) -> Kind:
    """Return one word of a few."""

    def read(value: Any) -> str:
        if value not in words:
            raise Unacceptable
        return str(value)

    schema = {"type": "string", "enum": [*words]}
    return Kind(schema, f"one of {', '.join(words)}", read)


def moment(bare: Direction) -> Kind:
    """Return an instant as the command line reads it; `bare` is where 15m lies."""

    def read(value: Any) -> Instant:
        if not isinstance(value, str) or len(value) > 64:
            raise Unacceptable
        try:
            found = times.parse_instant(value, bare=bare)
        except times.OutOfRange as error:
            raise OutOfRange(str(error)) from None
        except ValueError as error:
            raise Unacceptable(f"is not acceptable: {error}") from None
        return found

    return Kind(
        {"type": "string", "maxLength": 64, "minLength": 1},
        "a time such as 15m, 2h ago or 2026-11-23T09:30:00Z",
        read,
        is_time=True,
    )


def length(least: float, most: float) -> Kind:
    """Return a length of time such as 30s or 5m, in seconds; a number is seconds."""
    bounds = f"{times.format_duration(least)} to {times.format_duration(most)}"

    def read(value: Any) -> float:
        if isinstance(value, bool):
            raise Unacceptable
        if isinstance(value, int | float):
            seconds = float(value)
        elif isinstance(value, str) and len(value) <= 64:
            seconds = _seconds(value)
        else:
            raise Unacceptable
        if not least <= seconds <= most:
            raise Unacceptable
        return seconds

    def of_text(text: str) -> Any:
        return float(text) if _DECIMAL.fullmatch(text) else text

    schema = {"type": ["string", "number"], "maxLength": 64}
    return Kind(schema, f"a duration from {bounds}, such as 30s or 5m", read, of_text)


def _seconds(text: str) -> float:
    try:
        return times.parse_duration(text).total_seconds()
    except times.OutOfRange:
        raise Unacceptable from None  # our own bounds are narrower
    except ValueError as error:
        raise Unacceptable(f"is not acceptable: {error}") from None


def document() -> Kind:
    """Return a JSON object, given on as text that the database takes."""

    def read(value: Any) -> str:
        if not isinstance(value, dict):
            raise Unacceptable
        return payload_text.written(value, what="the object")

    return Kind({"type": "object"}, "a JSON object", read, as_written=True)


def anything() -> Kind:
    """Return any JSON, given on as text that the database takes."""

    def read(value: Any) -> str:
        return payload_text.written(value, what="the value")

    kinds = ["object", "array", "string", "number", "boolean"]
    return Kind({"type": kinds}, "JSON other than null", read, as_written=True)
