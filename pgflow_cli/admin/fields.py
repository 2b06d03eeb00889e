"""What a request may hold: each field is declared once, for reading and for OpenAPI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from werkzeug.datastructures import MultiDict

from pgflow_cli.admin.kinds import Kind, OutOfRange, Schema, Unacceptable
from pgflow_cli.admin.problems import Problem, bad_request
from pgflow_cli.formats import payload_text

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

    A form sends what nobody has filled in, too: there, empty is as good as absent.
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

    `text` is what it was parsed from: payloads are taken from there.
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
    whole = [name for name in document if known[name].kind.as_written]
    if text is not None and whole:
        written = payload_text.members(text)
        given = [name for name in whole if document[name] is not None]
        values.update({name: written[name] for name in given})
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
