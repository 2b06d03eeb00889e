"""What a request may hold: each field is declared once, for reading and for OpenAPI."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from werkzeug.datastructures import MultiDict

from pgflow_cli.admin.problems import Problem, bad_request
from pgflow_cli.formats import payload_text, times
from pgflow_cli.formats.times import Direction, Instant

Values = dict[str, Any]

# A name is repeated only if it can be nothing but a name.
_NAME = re.compile(r"[A-Za-z0-9_]{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a query or a body; without a value it is its default."""

    name: str
    kind: Kind
    help: str = ""
    default: Any = None
    required: bool = False
    many: bool = False

    @property
    def schema(self) -> Schema:
        """Return it as a JSON schema, for OpenAPI."""
        schema: dict[str, Any] = dict(self.kind.schema)
        if self.many:
            schema = {"type": "array", "items": schema, "minItems": 1}
        if self.help:
            schema["description"] = self.help
        if isinstance(self.default, str | int | float | bool):
            schema["default"] = self.default
        return schema

    def read(self, value: Any) -> Any:
        """Return an acceptable value, or part of a list; else it is a `Problem`."""
        name = f"an item of {self.name}" if self.many else self.name
        try:
            return self.kind.read(value)
        except OutOfRange as problem:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: {problem}"
            ) from None
        except Unacceptable as problem:
            said = str(problem) or f"is not {self.kind.expects}"
            raise bad_request(f"{name} {said}") from None

    def read_text(self, text: str) -> Any:
        """Return an acceptable value of what stands in a URL."""
        return self.read(self.kind.of_text(text))


def read_query(
    arguments: MultiDict[str, str], fields: Sequence[Field], *, of_form: bool = False
) -> Values:
    """Return the values of a query; what is unknown or said twice is refused.

    A form also sends fields that are left empty: there, empty is as good as absent.
    """
    known = {each.name: each for each in fields}
    for name in arguments:
        if name not in known:
            raise bad_request(
                f"there is no parameter {_named(name)} here; {_names(fields)}"
            )
    values: Values = {}
    for name, each in known.items():
        given = arguments.getlist(name)
        if of_form:
            given = [text for text in given if text != ""]
        if len(given) > 1 and not each.many:
            raise bad_request(f"{name} is given more than once")
        read = [each.read_text(text) for text in given]
        if each.required and not read:
            raise bad_request(f"{name} is required")
        absent: Any = [] if each.many else each.default
        values[name] = absent if not read else read if each.many else read[0]
    return values


def read_body(
    document: object,
    fields: Sequence[Field],
    text: str | None = None,
    *,
    what: str = "the body",
) -> Values:
    """Return the values of a body that has been parsed; null is as good as absent.

    `text` is what it was parsed from: payloads are taken from there, and it tells what
    was given twice.
    """
    if not isinstance(document, dict):
        raise bad_request(f"{what} must be a JSON object")
    known = {each.name: each for each in fields}
    for name in document:
        if name not in known:
            raise bad_request(
                f"{what} has an unknown field {_named(name)}; {_names(fields)}"
            )
    values = {
        each.name: _of_body(document.get(each.name), each) for each in known.values()
    }
    if text is not None:
        written = payload_text.members(text)
        given = [name for name in document if document[name] is not None]
        for name in given:
            if known[name].kind.as_written:
                values[name] = written[name]
            elif "properties" in known[name].kind.schema:
                payload_text.members(written[name])  # nothing is given twice there
    return values


def _of_body(value: Any, each: Field) -> Any:
    if value is None:
        if each.required:
            raise bad_request(f"{each.name} is required, and not null")
        return [] if each.many else each.default
    if not each.many:
        return each.read(value)
    if not isinstance(value, list) or not value:
        raise bad_request(f"{each.name} is not a list with at least one item")
    return [each.read(part) for part in value]


def _named(name: str) -> str:
    return f'"{name}"' if _NAME.fullmatch(name) else "that was given"


def _names(fields: Sequence[Field]) -> str:
    names = ", ".join(sorted(each.name for each in fields))
    return f"known are {names}" if names else "it takes none"


def part(fields: Sequence[Field], *, what: str) -> Kind:
    """Return an object of fields, which are read as those of a body."""

    def read(value: Any) -> Values:
        if not isinstance(value, dict):
            raise Unacceptable
        return read_body(value, fields, what=what)

    schema = {
        "type": "object",
        "properties": {each.name: each.schema for each in fields},
        "additionalProperties": False,
    }
    is_time = any(each.kind.is_time for each in fields)
    return Kind(schema, "a JSON object", read, is_time=is_time)


Schema = Mapping[str, Any]

LONGEST_TEXT = 1000
# More digits Python does not read; a number of so many is out of all bounds anyway.
_WHOLE = re.compile(r"[+-]?\d{1,1000}", re.ASCII)
_DECIMAL = re.compile(r"\d{1,12}(?:\.\d{1,6})?", re.ASCII)
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


class Unacceptable(Exception):
    """A value is not acceptable; its field names itself."""


class OutOfRange(Unacceptable):
    """A time that cannot be meant: 422."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: its JSON schema, how a refusal names it, how it is read.

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


def one_of(*values: str) -> Kind:
    """Return one text of a few."""

    def read(value: Any) -> str:
        if value not in values:
            raise Unacceptable
        return str(value)

    schema = {"type": "string", "enum": [*values]}
    return Kind(schema, f"one of {', '.join(values)}", read)


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
