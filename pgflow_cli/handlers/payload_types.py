"""Converts decoded JSON to typed values: dataclasses, msgspec and pydantic models.

It is strict: a JSON string is never converted to a number ("1" is no int), and unknown
fields are errors. A message names the field and the expected and found types, never the
value: messages are stored and shown, and payloads may be secret.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Union
from uuid import UUID

from pgflow_cli.handlers.exceptions import PayloadError


class UnsupportedType(Exception):
    """There is no rule for an annotation."""


def resolve(function: Any, parameter: Any, namespace: Mapping[str, Any] | None) -> Any:
    """Return a parameter's annotation as a type; without one, Any. Raises NameError.

    Only this annotation is resolved: the other may be imported for type checkers only.
    """
    if parameter.annotation is parameter.empty:
        return Any
    home = getattr(function, "__wrapped__", function)
    home = getattr(home, "func", home)  # functools.partial
    if not hasattr(home, "__globals__"):
        home = type(home).__call__  # an object that can be called
    stand_in = types.SimpleNamespace(__annotations__={"payload": parameter.annotation})
    return typing.get_type_hints(
        stand_in,
        getattr(home, "__globals__", {}),
        dict(namespace) if namespace else None,
        include_extras=False,
    )["payload"]


def decoder(annotation: Any, namespace: Mapping[str, Any] | None = None) -> Decode:
    """Return a function of (value, path) that makes the type or raises PayloadError.

    Raises UnsupportedType or NameError at once, so that a mistake shows when the worker
    starts.
    """
    return _Compiler(namespace).decoder(annotation)


class _Compiler:
    """Builds decoders; remembers dataclasses, which may contain themselves."""

    def __init__(self, namespace: Mapping[str, Any] | None) -> None:
        self._namespace = dict(namespace) if namespace else None
        self._known: dict[type, Decode] = {}

    def decoder(self, annotation: Any) -> Decode:
        while isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        if annotation in (Any, object):
            return lambda value, path: value
        if annotation is None:
            annotation = type(None)
        origin = typing.get_origin(annotation)
        if origin is not None:
            return self._generic(origin, typing.get_args(annotation), annotation)
        if isinstance(annotation, type):
            return self._class(annotation)
        raise UnsupportedType(str(annotation))

    def _class(self, cls: type) -> Decode:
        if cls in SCALARS:
            return SCALARS[cls]
        if cls in (dict, list, tuple, set, frozenset):
            return self._generic(cls, (), cls)
        if issubclass(cls, enum.Enum):
            return choice(cls.__name__, [(m.value, m) for m in cls])
        if callable(getattr(cls, "model_validate", None)):
            return pydantic_model(cls)
        if hasattr(cls, "__struct_fields__"):
            return msgspec_struct(cls)
        if dataclasses.is_dataclass(cls):
            return self._dataclass(cls)
        raise UnsupportedType(cls.__qualname__)

    def _generic(
        self, origin: Any, arguments: tuple[Any, ...], annotation: Any
    ) -> Decode:
        if origin in (Union, types.UnionType):
            return self._union(arguments)
        if origin is typing.Literal:
            return choice("Literal", [(value, value) for value in arguments])
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            return fixed(tuple(self.decoder(a) for a in arguments))
        if origin in ARRAYS:
            return array(
                ARRAYS[origin], self.decoder(arguments[0] if arguments else Any)
            )
        if origin in (dict, abc.Mapping, abc.MutableMapping):
            key, item = arguments or (str, Any)
            if key not in (str, Any):
                raise UnsupportedType(
                    f"{annotation}: the keys of a JSON object are strings"
                )
            return mapping(self.decoder(item))
        if isinstance(origin, type) and not arguments:
            return self._class(origin)
        raise UnsupportedType(str(annotation))

    def _union(self, arguments: tuple[Any, ...]) -> Decode:
        members = [self.decoder(a) for a in arguments if a is not type(None)]
        optional = len(members) < len(arguments)

        def decode(value: Any, path: str) -> Any:
            if value is None and optional:
                return None
            if len(members) == 1:
                return members[0](value, path)
            for member in members:
                try:
                    return member(value, path)
                except PayloadError:
                    continue
            raise PayloadError(
                f"{path}: none of the allowed types fits {kind_of(value)}"
            )

        return decode

    def _dataclass(self, cls: type) -> Decode:
        if cls in self._known:
            return self._known[cls]
        members: dict[str, Decode] = {}
        required: set[str] = set()

        def decode(value: Any, path: str) -> Any:
            expect(dict, value, path)
            for name in value:
                if name not in members:
                    raise PayloadError(f"{path}: unknown field {name[:64]!r}")
            for name in required:
                if name not in value:
                    raise PayloadError(f"{path}.{name}: missing")
            arguments = {n: members[n](v, f"{path}.{n}") for n, v in value.items()}
            return constructed(cls, arguments, path)

        self._known[cls] = decode
        hints = typing.get_type_hints(cls, localns=self._namespace)
        for part in dataclasses.fields(cls):
            if not part.init:
                continue
            members[part.name] = self.decoder(hints[part.name])
            if (
                part.default is dataclasses.MISSING
                and part.default_factory is dataclasses.MISSING
            ):
                required.add(part.name)
        return decode


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
            # The error's own text repeats the input.
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
    """Return the decoder for one of several values: pairs of JSON value and Python
    value.
    """

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
