"""What an answer holds: each shape is declared once, for writing and for OpenAPI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pgflow_cli.models.selection import Position

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "array", "items": TEXT}
ID: Schema = {"type": "string", "format": "uuid"}
TIME: Schema = {"type": "string", "format": "date-time"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
ANY: Schema = {}


def maybe(schema: Schema) -> Schema:
    """Return the schema that takes null, too."""
    if "type" in schema:
        kinds = schema["type"]
        kinds = [kinds] if isinstance(kinds, str) else [*kinds]
        found = {**schema, "type": [*kinds, "null"]}
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
        return found
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(*values: str) -> Schema:
    """Return the schema of one text of a few."""
    return {"type": "string", "enum": [*values]}


def array(items: Schema) -> Schema:
    """Return a list of them."""
    return {"type": "array", "items": items}


def either(kind: str, **shapes: Shape) -> Schema:
    """Return the schema of one of several shapes; the field `kind` says which."""
    mapping = {name: str(shape.reference["$ref"]) for name, shape in shapes.items()}
    return {
        "oneOf": [shape.reference for shape in shapes.values()],
        "discriminator": {"propertyName": kind, "mapping": mapping},
    }


@dataclass(frozen=True, slots=True)
class Shape:
    """An object in an answer: its fields are those of a row, or of a mapping. `help`
    explains those whose names do not say enough.
    """

    name: str
    fields: Mapping[str, Schema]
    help: Mapping[str, str] = field(default_factory=dict)

    @property
    def schema(self) -> Schema:
        """Return it as JSON schema; every field is always there, and no other."""
        return {
            "type": "object",
            "properties": {
                name: schema | self._told(name) for name, schema in self.fields.items()
            },
            "required": [*self.fields],
            "additionalProperties": False,
        }

    @property
    def reference(self) -> Schema:
        """The reference by which other schemas name it."""
        return {"$ref": f"#/components/schemas/{self.name}"}

    def _told(self, name: str) -> Schema:
        return {"description": self.help[name]} if name in self.help else {}

    def of(self, row: Any) -> dict[str, Any]:
        """Return a row as this shape."""
        if isinstance(row, Mapping):
            return {name: row[name] for name in self.fields}
        return {name: getattr(row, name) for name in self.fields}


def list_of(shape: Shape) -> Shape:
    """Return the shape of a list that has no pages."""
    return Shape(f"{shape.name}List", {"items": array(shape.reference)})


def page_of(shape: Shape) -> Shape:
    """Return the shape of a page of a list."""
    fields = {
        "items": array(shape.reference),
        "next_cursor_created_at": maybe(TIME),
        "next_cursor_id": maybe(TEXT),
    }
    return Shape(f"{shape.name}Page", fields)


def page(shape: Shape, rows: Iterable[Any], more: Position | None) -> dict[str, Any]:
    """Return a page; on the last one both halves of the cursor are null."""
    at, identity = more or (None, None)
    return {
        "items": [shape.of(row) for row in rows],
        "next_cursor_created_at": at,
        "next_cursor_id": identity,
    }
