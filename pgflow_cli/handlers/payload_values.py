"""The rules for single values of a payload; each refuses what it would have to guess.

A message names the field and the kinds that were expected and found, never the value.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from pgflow_cli.handlers.signals import PayloadError

Decode = Callable[[Any, str], Any]

_KINDS = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


def constructed(cls: type, arguments: dict[str, Any], path: str) -> Any:
    """Construct a dataclass, whose __post_init__ may have rules of its own."""
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise PayloadError(f"{path}: {error}") from error


def pydantic_model(cls: Any) -> Decode:
    def decode(value: Any, path: str) -> Any:
        try:
            return cls.model_validate(value)
        except ValueError as error:
            problems = getattr(error, "errors", None)
            if not callable(problems):
                raise PayloadError(f"{path}: {error}") from error
            # Its own text repeats the input.
            first = problems(include_input=False, include_url=False)[0]
            place = "".join(f".{part}" for part in first["loc"])
            raise PayloadError(f"{path}{place}: {first['msg']}") from error

    return decode


def msgspec_struct(cls: Any) -> Decode:
    import msgspec  # noqa: PLC0415 - only an application that uses it has it

    def decode(value: Any, path: str) -> Any:
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as error:
            raise PayloadError(f"{path}: {error}") from error

    return decode


def expect(cls: type, value: Any, path: str) -> None:
    if type(value) is not cls:
        raise PayloadError(f"{path}: expected {_KINDS[cls]}, found {kind_of(value)}")


def kind_of(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _exactly(cls: type) -> Decode:
    def decode(value: Any, path: str) -> Any:
        expect(cls, value, path)
        return value

    return decode


def _number(value: Any, path: str) -> float:
    if type(value) not in (int, float):
        raise PayloadError(f"{path}: expected a number, found {kind_of(value)}")
    try:
        return float(value)
    except OverflowError:
        raise PayloadError(f"{path}: the number is too large") from None


def _decimal(value: Any, path: str) -> Decimal:
    if type(value) not in (int, float, str):
        raise PayloadError(f"{path}: expected a number, found {kind_of(value)}")
    try:
        return Decimal(str(value))
    except ArithmeticError:
        raise PayloadError(f"{path}: expected a number in the string") from None


def _parsed(parse: Callable[[str], Any], what: str) -> Decode:
    def decode(value: Any, path: str) -> Any:
        if type(value) is not str:
            raise PayloadError(
                f"{path}: expected {what} as a string, found {kind_of(value)}"
            )
        try:
            return parse(value)
        except ValueError:
            raise PayloadError(f"{path}: the string is not {what}") from None

    return decode


def choice(name: str, members: Sequence[tuple[Any, Any]]) -> Decode:
    """Return the rule for one of several values: pairs of JSON's and Python's."""

    def decode(value: Any, path: str) -> Any:
        for known, member in members:
            # 1 == True == 1.0 for Python, not for JSON.
            if type(known) is type(value) and known == value:
                return member
        raise PayloadError(f"{path}: not one of the values of {name}")

    return decode


def array(make: Callable[[list[Any]], Any], item: Decode) -> Decode:
    def decode(value: Any, path: str) -> Any:
        expect(list, value, path)
        try:
            return make([item(v, f"{path}[{n}]") for n, v in enumerate(value)])
        except TypeError:
            raise PayloadError(
                f"{path}: arrays and objects cannot be in a set"
            ) from None

    return decode


def fixed(items: tuple[Decode, ...]) -> Decode:
    def decode(value: Any, path: str) -> Any:
        expect(list, value, path)
        if len(value) != len(items):
            raise PayloadError(
                f"{path}: expected {len(items)} items, found {len(value)}"
            )
        pairs = zip(items, value, strict=True)
        return tuple(item(v, f"{path}[{n}]") for n, (item, v) in enumerate(pairs))

    return decode


def mapping(item: Decode) -> Decode:
    def decode(value: Any, path: str) -> Any:
        expect(dict, value, path)
        return {k: item(v, f"{path}.{k[:64]}") for k, v in value.items()}

    return decode


ARRAYS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    abc.Sequence: list,
    abc.MutableSequence: list,
    abc.Iterable: list,
    abc.Collection: list,
    abc.Set: frozenset,
}

SCALARS: dict[Any, Decode] = {
    str: _exactly(str),
    int: _exactly(int),
    bool: _exactly(bool),
    type(None): _exactly(type(None)),
    float: _number,
    Decimal: _decimal,
    UUID: _parsed(UUID, "a UUID"),
    datetime: _parsed(datetime.fromisoformat, "a date and time"),
    date: _parsed(date.fromisoformat, "a date"),
    time: _parsed(time.fromisoformat, "a time of day"),
}
