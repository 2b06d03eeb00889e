"""Makes typed values of decoded JSON: dataclasses, msgspec and pydantic models.

Strict: nothing is converted that JSON can say itself ("1" is no int), nothing unknown
is dropped. A message names the field and the kinds that were expected and found, never
the value: messages are kept and shown, payloads may be secret.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections import abc
from collections.abc import Mapping
from typing import Any, Union

from pgflow_cli.handlers import payload_values as values
from pgflow_cli.handlers.payload_values import Decode
from pgflow_cli.handlers.signals import PayloadError


class UnsupportedType(Exception):
    """There is no rule for an annotation."""


def resolve(function: Any, parameter: Any, namespace: Mapping[str, Any] | None) -> Any:
    """Return a parameter's annotation as a type; without one, Any. Raises NameError.

    Only this one is looked at: the other may name what is imported for type checkers
    alone.
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
        if cls in values.SCALARS:
            return values.SCALARS[cls]
        if cls in (dict, list, tuple, set, frozenset):
            return self._generic(cls, (), cls)
        if issubclass(cls, enum.Enum):
            return values.choice(cls.__name__, [(m.value, m) for m in cls])
        if callable(getattr(cls, "model_validate", None)):
            return values.pydantic_model(cls)
        if hasattr(cls, "__struct_fields__"):
            return values.msgspec_struct(cls)
        if dataclasses.is_dataclass(cls):
            return self._dataclass(cls)
        raise UnsupportedType(cls.__qualname__)

    def _generic(
        self, origin: Any, arguments: tuple[Any, ...], annotation: Any
    ) -> Decode:
        if origin in (Union, types.UnionType):
            return self._union(arguments)
        if origin is typing.Literal:
            return values.choice("Literal", [(value, value) for value in arguments])
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            return values.fixed(tuple(self.decoder(a) for a in arguments))
        if origin in values.ARRAYS:
            return values.array(
                values.ARRAYS[origin], self.decoder(arguments[0] if arguments else Any)
            )
        if origin in (dict, abc.Mapping, abc.MutableMapping):
            key, item = arguments or (str, Any)
            if key not in (str, Any):
                raise UnsupportedType(
                    f"{annotation}: the keys of a JSON object are strings"
                )
            return values.mapping(self.decoder(item))
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
                f"{path}: none of the allowed types fits {values.kind_of(value)}"
            )

        return decode

    def _dataclass(self, cls: type) -> Decode:
        if cls in self._known:
            return self._known[cls]
        members: dict[str, Decode] = {}
        required: set[str] = set()

        def decode(value: Any, path: str) -> Any:
            values.expect(dict, value, path)
            for name in value:
                if name not in members:
                    raise PayloadError(f"{path}: unknown field {name[:64]!r}")
            for name in required:
                if name not in value:
                    raise PayloadError(f"{path}.{name}: missing")
            arguments = {n: members[n](v, f"{path}.{n}") for n, v in value.items()}
            return values.constructed(cls, arguments, path)

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
